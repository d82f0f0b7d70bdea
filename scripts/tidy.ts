/**
 * Checks what a linter cannot, over all files that git knows or would add:
 *
 *   header   every source file opens with a comment that says what it is
 *   dead     every module is reached from the program, the library, a test or a script
 *   unused   every exported value is imported somewhere; no exported type is without any use
 *   source   every struct declared with layout() says which document it comes from
 *   face     other layers reach src/ext4 and src/fuse through their index.ts only
 *
 * Prints a line for each finding and exits with 1 if there was one.
 */
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";

const ROOT = new URL("..", import.meta.url).pathname;
process.chdir(ROOT);

/** Where the program and the library begin, besides tests, scripts and benches. */
const ENTRIES = ["src/cli/main.ts", "src/server/worker.ts", "src/ext4/index.ts"];
const PUBLIC_FACES = ["src/ext4", "src/fuse"];
const LISTED = ["ls-files", "--cached", "--others", "--exclude-standard"];

const files = execFileSync("git", LISTED, { encoding: "utf8" })
  .split("\n")
  .filter((file) => file !== "" && existsSync(file));
const texts = new Map(
  files
    .filter((file) => /\.(ts|cc|h|py)$|^(bin|scripts|\.ci)\/[^.]+$/.test(file))
    .map((file) => [file, readFileSync(file, "utf8")]),
);
const modules = [...texts.keys()].filter((file) => file.endsWith(".ts"));
const textOf = (file: string): string => texts.get(file) ?? "";

const findings: string[] = [];
const report = (file: string, what: string): void => {
  findings.push(`${file}: ${what}`);
};

/** A name that one module takes from another; `*` for all of them. */
interface Import {
  readonly from: string;
  readonly name: string;
}

const STATEMENT = /^(?:import|export)\s(type\s)?([^;"]*?)\sfrom\s"(\.[^"]+)"/gms;
const DYNAMIC = /\bimport\("(\.[^"]+)"\)|^import\s"(\.[^"]+)"/gm;

function importsOf(file: string): Import[] {
  const found: Import[] = [];
  const resolve = (path = ""): string => normalize(join(dirname(file), path));
  for (const [, , clause = "", path] of textOf(file).matchAll(STATEMENT)) {
    const braces = /\{([^}]*)\}/s.exec(clause)?.[1];
    const names = braces === undefined ? ["*"] : braces.split(",");
    for (const name of names) {
      const plain =
        name
          .replace(/^\s*type\s/, "")
          .trim()
          .split(/\s+as\s+/)[0] ?? "";
      if (plain !== "") found.push({ from: resolve(path), name: plain });
    }
  }
  for (const [, dynamic, bare] of textOf(file).matchAll(DYNAMIC))
    found.push({ from: resolve(dynamic ?? bare), name: "*" });
  return found;
}

const imports = new Map(modules.map((file) => [file, importsOf(file)]));

function checkHeaders(): void {
  for (const [file, text] of texts) {
    const first = text.startsWith("#!") ? text.slice(text.indexOf("\n") + 1) : text;
    if (!/^(\/\*\*|\/\/|#|""")/.test(first)) report(file, "header: opens without a comment");
  }
}

function checkDead(): void {
  const reached = new Set<string>();
  const visit = (file: string): void => {
    if (reached.has(file)) return;
    reached.add(file);
    for (const { from } of imports.get(file) ?? []) visit(from);
  };
  for (const file of modules)
    if (ENTRIES.includes(file) || !/^(src|test\/support)\//.test(file)) visit(file);
  for (const file of modules) if (!reached.has(file)) report(file, "dead: nothing imports it");
}

function checkUnused(): void {
  const used = new Set([...imports.values()].flat().map(({ from, name }) => `${from} ${name}`));
  for (const file of modules) {
    if (file === "src/ext4/index.ts" || used.has(`${file} *`)) continue;
    const declarations = textOf(file).matchAll(
      /^export (?:abstract )?(const|function|class|type|interface) (\w+)/gm,
    );
    for (const [, kind, name = ""] of declarations) {
      if (used.has(`${file} ${name}`) || isLayout(file, name)) continue;
      const mentions = textOf(file).match(new RegExp(`\\b${name}\\b`, "g"))?.length ?? 0;
      const isType = kind === "type" || kind === "interface";
      if (!isType || mentions === 1) report(file, `unused: nobody imports ${name}`);
    }
  }
}

/** Structs are reached by way of allLayouts(), too. */
function isLayout(file: string, name: string): boolean {
  return textOf(file).includes(`export const ${name} = layout(`);
}

function checkSources(): void {
  for (const file of modules.filter((each) => each.startsWith("src/"))) {
    const text = textOf(file);
    const header = text.slice(0, text.indexOf("*/"));
    for (const match of text.matchAll(/^(?:export )?const (\w+) = layout\("/gm)) {
      const above = text.slice(text.lastIndexOf("/**", match.index), match.index);
      const documented = !/^(export |const |function )/m.test(above) && above.includes("@see");
      if (!header.includes("@see") && !documented)
        report(file, `source: layout of ${match[1]} cites no document (@see)`);
    }
  }
}

function checkFaces(): void {
  for (const [file, names] of imports) {
    if (!file.startsWith("src/")) continue;
    for (const { from } of names) {
      const face = PUBLIC_FACES.find((each) => from.startsWith(`${each}/`));
      if (face !== undefined && !file.startsWith(`${face}/`) && from !== `${face}/index.ts`)
        report(file, `face: imports ${from}, not ${face}/index.ts`);
    }
  }
}

checkHeaders();
checkDead();
checkUnused();
checkSources();
checkFaces();
for (const finding of [...new Set(findings)].sort()) console.error(finding);
process.exitCode = findings.length > 0 ? 1 : 0;
