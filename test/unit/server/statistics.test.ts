/** The table of --stats. */
import { expect, test } from "vitest";
import { formatStatistics } from "../../../src/server/statistics.ts";

test("formatStatistics() has a line for every opcode that was seen, and the sums", () => {
  const requests = new Float64Array(128);
  const scripted = new Float64Array(128);
  requests[1] = scripted[1] = 12; // LOOKUP
  requests[15] = 1000; // READ
  scripted[15] = 3;
  requests[26] = scripted[26] = 1; // INIT
  expect(formatStatistics({ requests, scripted })).toBe(
    [
      "request               served   in script",
      "LOOKUP                    12          12",
      "READ                    1000           3",
      "INIT                       1           1",
      "total                   1013          16",
      "",
    ].join("\n"),
  );
});

test("formatStatistics() knows the counters of iomap", () => {
  const requests = new Float64Array(128);
  requests[121] = 2;
  requests[126] = 3;
  const [, freeze, begin] = formatStatistics({ requests, scripted: requests }).split("\n");
  expect(freeze).toMatch(/4089|FREEZE/);
  expect(begin).toMatch(/4094|IOMAP_BEGIN/);
});
