// One project per kind of test (CONTRIBUTING.md says what each may need).
import { defineConfig } from "vitest/config";

const project = (name: string, timeoutSeconds: number) => ({
  test: {
    name,
    include: [`test/${name}/**/*.test.ts`],
    testTimeout: timeoutSeconds * 1000,
    hookTimeout: timeoutSeconds * 1000,
  },
});

export default defineConfig({
  test: {
    projects: [
      project("unit", 5),
      project("wire", 5),
      project("oracle", 300),
      project("mount", 300),
      project("hostile", 300),
    ],
  },
});
