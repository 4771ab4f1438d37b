/**
 * Server-sent events, parsed as they come (WHATWG HTML, section 9.2.6).
 *
 * An EventSource keeps to itself what this tells: that anything came at all, a heartbeat say, and
 * that the position moved without an event.
 */

export class Events {
  /** @param {(type: string, data: string) => void} dispatch given each event; `lastId` is its id */
  constructor(dispatch) {
    this.dispatch = dispatch;
    this.lastId = "";
    /** @type {number | undefined} how long to wait before connecting anew, if that was told */
    this.retryMs = undefined;
    this.#begin();
  }

  #rest = "";
  #afterReturn = false;
  #id = "";
  #type = "";
  /** @type {string[]} */
  #data = [];

  /** @param {string} text the next part of the stream, cut anywhere */
  feed(text) {
    if (!text) return;
    const fresh = this.#afterReturn && text.startsWith("\n") ? text.slice(1) : text; // one line end
    this.#afterReturn = text.endsWith("\r");
    const lines = (this.#rest + fresh).split(/\r\n|\n|\r/);
    this.#rest = lines.pop() ?? "";
    for (const line of lines) this.#take(line);
  }

  /** Begin another connection's stream: what had come of an event only in part will come again. */
  restart() {
    this.#rest = "";
    this.#afterReturn = false;
    this.#id = this.lastId;
    this.#begin();
  }

  #begin() {
    this.#type = "";
    this.#data = [];
  }

  /** @param {string} line */
  #take(line) {
    if (!line) return this.#end();
    const colon = line.indexOf(":");
    if (!colon) return; // a comment
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + (line[colon + 1] === " " ? 2 : 1));
    if (field === "data") this.#data.push(value);
    else if (field === "event") this.#type = value;
    else if (field === "id" && !value.includes("\0")) this.#id = value;
    else if (field === "retry" && /^\d+$/.test(value)) this.retryMs = Number(value);
  }

  #end() {
    this.lastId = this.#id;
    const [type, data] = [this.#type || "message", this.#data.join("\n")];
    const isEvent = this.#data.length > 0;
    this.#begin();
    if (isEvent) this.dispatch(type, data);
  }
}
