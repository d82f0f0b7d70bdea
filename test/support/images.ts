/**
 * The golden images of test/images, and what debugfs says about each of them. They are made by
 * scripts/make-images.ts; a path in an expectation has one character per byte.
 */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import type { Scope } from "./scope.ts";

export interface ExpectedInode {
  /** As debugfs names it: `regular`, `directory`, `FIFO`, … */
  readonly type: string;
  /** Four octal digits. */
  readonly permissions: string;
  readonly flags: number;
  readonly generation: number;
  readonly uid: number;
  readonly gid: number;
  readonly projectId: number;
  readonly sizeBytes: number;
  readonly linkCount: number;
  readonly blocks512: number;
  /** Seconds and nanoseconds. */
  readonly accessedAt: readonly [number, number];
  readonly modifiedAt: readonly [number, number];
  readonly changedAt: readonly [number, number];
  readonly createdAt?: readonly [number, number] | undefined;
  /** Major and minor number. */
  readonly device?: readonly [number, number];
  readonly sha256?: string;
  readonly target?: string;
  /** Values in hex by name. */
  readonly xattrs?: Readonly<Record<string, string>>;
}

export interface Expectation {
  readonly oracle: string;
  readonly features: string;
  /** Inode numbers by path. */
  readonly paths: Readonly<Record<string, number>>;
  readonly inodes: Readonly<Record<string, ExpectedInode>>;
}

const IMAGES = new URL("../images/", import.meta.url).pathname;

/** The names of all golden images. */
export function imageNames(): string[] {
  return readdirSync(IMAGES).sort();
}

/** The bytes of a golden image: a copy that the caller may change. */
export function image(name: string): Uint8Array {
  return new Uint8Array(gunzipSync(readFileSync(join(IMAGES, name, "image.gz"))));
}

/** A golden image as a file of its own. */
export function imageFile(scope: Scope, name: string): string {
  const path = join(scope.temporaryFolder(), `${name}.img`);
  writeFileSync(path, image(name));
  return path;
}

export function expectation(name: string): Expectation {
  return JSON.parse(readFileSync(join(IMAGES, name, "expect.json"), "utf8")) as Expectation;
}
