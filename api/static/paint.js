/** Painting in animation frames: at most so often, never in a hidden tab, never for nothing. */

const stillness = matchMedia("(prefers-reduced-motion: reduce)");

export class Painter {
  /**
   * @param {() => void} paint
   * @param {number} perSecond most paints a second; with reduced motion at most two
   */
  constructor(paint, perSecond) {
    this.paint = paint;
    this.perSecond = perSecond;
    this.wanted = false;
    this.last = -Infinity;
  }

  /** Ask for a paint; any number of calls before it make one. */
  request() {
    if (this.wanted) return;
    this.wanted = true;
    const perSecond = stillness.matches ? Math.min(2, this.perSecond) : this.perSecond;
    const wait = this.last + 1000 / perSecond - performance.now();
    if (wait > 0) setTimeout(() => this.#atFrame(), wait);
    else this.#atFrame();
  }

  // Browsers hold animation frames back while the tab is hidden: nothing is painted there.
  #atFrame() {
    requestAnimationFrame(() => {
      this.wanted = false;
      this.last = performance.now();
      this.paint();
    });
  }
}
