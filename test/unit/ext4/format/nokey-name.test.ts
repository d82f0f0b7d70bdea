/**
 * Names that stand for encrypted ones, against two that Linux 6.18 showed for names in an encrypted
 * directory after its key had been removed (xfs_io: set_encpolicy -v 2, add_enckey), and SHA-256
 * against the examples of FIPS 180.
 */
import { expect, test } from "vitest";
import { noKeyName, parseNoKeyName } from "../../../../src/ext4/format/nokey-name.ts";
import { sha256 } from "../../../../src/ext4/format/sha256.ts";

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);
const hex = (bytes: Uint8Array): string =>
  [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
const unhex = (text: string): Uint8Array =>
  Uint8Array.from(text.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));

const SHORT = {
  ciphertext: "d16b493a92c86a68cd35ed9cc32a990e46cc19efc145e4505905780c09a8510b",
  hash: 0x71fb7150,
  minorHash: 0xe7228923,
  shown: "UHH7cSOJIufRa0k6kshqaM017ZzDKpkORswZ78FF5FBZBXgMCahRCw",
};
const LONG = {
  ciphertext:
    "3be7cce1659e5d1d2deadf3484b77efaf800244b433a726809b5859d50e2d686ca17c00b2a9af4439e7fb4a87d52a2d6" +
    "661b32792d7c7cb0cdb913c4d016728f6c9d06d02d0225eb50e7f852929ce1826e5eaced4426b634be375ff28d6324c2" +
    "0e2e54af7950937bfca3b3ea0654d1dc015aa7e2f63f392567f16b6ce0055cd7986354db616f2b451a6739ac9d3c08b0" +
    "7b4565bf5104bb70737fd96da7f0f9dc",
  hash: 0x72981b36,
  minorHash: 0x2325a21f,
  shown:
    "NhuYch-iJSM758zhZZ5dHS3q3zSEt376-AAkS0M6cmgJtYWdUOLWhsoXwAsqmvRDnn-0qH1SotZmGzJ5LXx8sM25E8TQFnKP" +
    "bJ0G0C0CJetQ5_hSkpzhgm5erO1EJrY0vjdf8o1jJMIOLlSveVCTe_yjs-oGVNHcAVqn4vY_OSVn8Wts4AVc15hjVNthbytF" +
    "Gmc5rJ08CLB7RWW_UeqACXOts1s_c67iMa77CorqeTnixG20ZuX6fa2ilYyI",
};

test.each([SHORT, LONG])("noKeyName is the kernel's name: $shown", (vector) => {
  const name = noKeyName(unhex(vector.ciphertext), vector.hash, vector.minorHash);
  expect(new TextDecoder().decode(name)).toBe(vector.shown);
});

test("parseNoKeyName has the whole ciphertext of a short name", () => {
  const parsed = parseNoKeyName(bytesOf(SHORT.shown));
  expect(parsed?.hash).toBe(SHORT.hash);
  expect(parsed?.minorHash).toBe(SHORT.minorHash);
  expect(hex(parsed?.ciphertext ?? new Uint8Array())).toBe(SHORT.ciphertext);
});

test("parseNoKeyName knows the ciphertext of a long name from any other", () => {
  const parsed = parseNoKeyName(bytesOf(LONG.shown));
  const ciphertext = unhex(LONG.ciphertext);
  expect(parsed?.hash).toBe(LONG.hash);
  expect(parsed?.ciphertext).toBeUndefined();
  expect(parsed?.matches(ciphertext, 0, ciphertext.length)).toBe(true);
  expect(parsed?.matches(ciphertext, 0, 149)).toBe(false);
  for (const at of [0, 148, 149, 159]) {
    const other = ciphertext.slice();
    other[at] = (other[at] as number) ^ 1;
    expect(parsed?.matches(other, 0, other.length), `byte ${at}`).toBe(false);
  }
});

test.each([
  ["an ordinary name", "plain.txt"],
  ["no ciphertext", "AAAAAAAAAAA"],
  ["characters of other encodings", `${SHORT.shown.slice(0, -1)}+`],
  ["bits left over", `${SHORT.shown.slice(0, -1)}x`],
  ["ciphertext too long to be whole", `${LONG.shown.slice(0, 216)}`],
  ["more than any name", `${LONG.shown}A`],
  ["nothing", ""],
])("parseNoKeyName does not take %s", (_, name) => {
  expect(parseNoKeyName(bytesOf(name))).toBeUndefined();
});

test.each([
  ["", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"],
  ["abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"],
  [
    "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
    "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
  ],
])("sha256 of %j", (message, digest) => {
  expect(hex(sha256(bytesOf(message)))).toBe(digest);
});
