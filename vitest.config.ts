// One project per kind of test (CONTRIBUTING.md says what each may need).
import { defineConfig } from "vitest/config";

const project = (name: string, timeoutSeconds: number, isolate = true) => ({
  test: {
    name,
    include: [`test/${name}/**/*.test.ts`],
    testTimeout: timeoutSeconds * 1000,
    hookTimeout: timeoutSeconds * 1000,
    isolate,
  },
});

export default defineConfig({
  test: {
    projects: [
      // Without a process for each file: these are many, and keep no state outside of a test.
      project("unit", 5, false),
      project("wire", 5, false),
      project("oracle", 300),
      project("model", 300),
      project("crash", 600),
      project("mount", 300),
      project("regress", 300),
      project("hostile", 300),
    ],
  },
});
