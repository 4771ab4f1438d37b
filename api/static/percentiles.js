/** Percentiles of a positive quantity over a sliding window, from logarithmic buckets. */

import { Seconds } from "./seconds.js";

const PER_DECADE = 48; // 10^(1/48) − 1: a bucket is 4.9 % wide
const FROM = -1;
const DECADES = 6;
const BUCKETS = PER_DECADE * DECADES;

/** @param {number} value from 0.1 to 100,000; beyond, it counts as the nearest */
const bucketOf = (value) =>
  Math.min(BUCKETS - 1, Math.max(0, Math.floor((Math.log10(value) - FROM) * PER_DECADE)));

/** @param {number} bucket */
const middleOf = (bucket) => 10 ** ((bucket + 0.5) / PER_DECADE + FROM);

export class Percentiles {
  /** @param {number} seconds the window's length */
  constructor(seconds) {
    this.window = new Seconds(seconds + 1, BUCKETS);
  }

  /** @param {number} value zero and below count as the smallest bucket */
  add(value) {
    this.window.add(value > 0 ? bucketOf(value) : 0);
  }

  /**
   * Give the quantiles over some seconds that have ended, or undefined where nothing was counted.
   * @param {number[]} quantiles ascending, each between 0 and 1
   * @param {number} seconds how many
   * @param {number} [youngest] the last one's age; 1 is the second that has just ended
   * @returns {number[] | undefined}
   */
  read(quantiles, seconds, youngest = 1) {
    this.window.advance();
    const counts = new Float64Array(BUCKETS);
    let total = 0;
    const oldest = Math.min(youngest + seconds - 1, this.window.ended);
    for (let age = youngest; age <= oldest; age += 1) {
      for (let bucket = 0; bucket < BUCKETS; bucket += 1) {
        const count = this.window.at(age, bucket);
        counts[bucket] += count;
        total += count;
      }
    }
    if (!total) return undefined;
    let bucket = 0;
    let below = counts[0];
    return quantiles.map((quantile) => {
      while (below < quantile * total && bucket < BUCKETS - 1) below += counts[(bucket += 1)];
      return middleOf(bucket);
    });
  }

  /**
   * Give one quantile for each second of the span, oldest first; NaN where nothing was counted.
   * @param {number} quantile
   */
  series(quantile) {
    const { span } = this.window;
    return Array.from({ length: span }, (_, at) => this.read([quantile], 1, span - at)?.[0] ?? NaN);
  }
}
