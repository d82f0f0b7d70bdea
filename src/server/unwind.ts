/** Takes `steps`, last to first and each once: how what was opened in an order is closed. */
export function unwind(steps: (() => void)[]): void {
  for (let step = steps.pop(); step !== undefined; step = steps.pop()) step();
}
