// Buffers of fixed size on typed arrays: what a page remembers does not grow. Pure.

/** Rows of numbers, the oldest overwritten. Each column is a Float64Array. */
export class Ring {
  constructor(capacity, columns) {
    this.capacity = capacity;
    this.columns = Object.fromEntries(columns.map((name) => [name, new Float64Array(capacity)]));
    this.names = columns;
    this.length = 0;
    this.next = 0;
  }

  push(...values) {
    for (let n = 0; n < this.names.length; n += 1) this.columns[this.names[n]][this.next] = values[n];
    this.next = (this.next + 1) % this.capacity;
    if (this.length < this.capacity) this.length += 1;
  }

  /** Where the nth row is, 0 the oldest. */
  slot(n) {
    return (this.next - this.length + n + this.capacity) % this.capacity;
  }

  get(name, n) {
    return this.columns[name][this.slot(n)];
  }

  last(name) {
    return this.length ? this.get(name, this.length - 1) : NaN;
  }

  /** The first row whose `name`, which rises, is at least `value`; length if none. */
  from(name, value) {
    let low = 0;
    let high = this.length;
    while (low < high) {
      const mid = (low + high) >> 1;
      if (this.get(name, mid) < value) low = mid + 1;
      else high = mid;
    }
    return low;
  }

  clear() {
    this.length = 0;
    this.next = 0;
  }
}

export const COLUMN = { EMPTY: 0, GOOD: 1, GAP: 2, SILENT: 3 };

/** A book over time: one column a bucket, the last state in it wins. */
export class BookRing {
  constructor(columns, levels, columnMs) {
    this.capacity = columns;
    this.levels = levels;
    this.columnMs = columnMs;
    const cells = columns * levels * 2;
    this.price = new Float64Array(cells);
    this.size = new Float32Array(cells);
    this.bids = new Uint16Array(columns);
    this.asks = new Uint16Array(columns);
    this.flag = new Uint8Array(columns);
    this.bucket = new Float64Array(columns).fill(-1);
    this.reason = new Array(columns).fill("");
    this.newest = -1;
  }

  bucketOf(ms) {
    return Math.floor(ms / this.columnMs);
  }

  slot(bucket) {
    return ((bucket % this.capacity) + this.capacity) % this.capacity;
  }

  /** Makes the bucket's column the newest; those jumped over have nothing in them. */
  open(bucket) {
    const at = this.slot(bucket);
    if (this.bucket[at] !== bucket) {
      this.bucket[at] = bucket;
      this.flag[at] = COLUMN.EMPTY;
      this.reason[at] = "";
      this.bids[at] = 0;
      this.asks[at] = 0;
    }
    if (bucket > this.newest) this.newest = bucket;
    return at;
  }

  /** Best first, [price, size]. A column that was once a gap stays one. */
  put(ms, bids, asks) {
    const bucket = this.bucketOf(ms);
    if (bucket <= this.newest - this.capacity) return;
    const at = this.open(bucket);
    if (this.flag[at] === COLUMN.GAP) return;
    this.flag[at] = COLUMN.GOOD;
    this.reason[at] = "";
    this.bids[at] = this.fill(at * this.levels * 2, bids);
    this.asks[at] = this.fill(at * this.levels * 2 + this.levels, asks);
  }

  fill(from, levels) {
    const n = Math.min(this.levels, levels.length);
    for (let k = 0; k < n; k += 1) {
      this.price[from + k] = levels[k][0];
      this.size[from + k] = levels[k][1];
    }
    return n;
  }

  /** A break of the feed (GAP), or nothing heard (SILENT, which a book in the same column mends). */
  mark(ms, flag, reason) {
    const at = this.open(this.bucketOf(ms));
    if (flag === COLUMN.SILENT && this.flag[at] !== COLUMN.EMPTY) return;
    this.flag[at] = flag;
    this.reason[at] = reason;
  }

  /** The column of a bucket: its slot, or -1 where there is none any more. */
  find(bucket) {
    const at = this.slot(bucket);
    return this.bucket[at] === bucket ? at : -1;
  }

  best(at) {
    const base = at * this.levels * 2;
    return {
      bid: this.bids[at] ? this.price[base] : NaN,
      ask: this.asks[at] ? this.price[base + this.levels] : NaN,
    };
  }

  clear() {
    this.bucket.fill(-1);
    this.newest = -1;
  }
}
