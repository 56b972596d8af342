// The list of utterances: searched, filtered, sorted, and drawn only where it is looked at.

const BLOCK = 20;
const MAX_PRINTED = 200;

const last = (list) => list[list.length - 1];
const mean = (list) => (list.length ? list.reduce((sum, value) => sum + value, 0) / list.length : Infinity);

function orders(report) {
  const value = (row, decoder, key) => row.hypotheses[decoder]?.[key] ?? -1;
  const known = {
    errors: ["most errors", (row, decoder) => -value(row, decoder, "errors")],
    wer: ["highest WER", (row, decoder) => -value(row, decoder, "wer")],
    cer: ["highest CER", (row, decoder) => -value(row, decoder, "cer")],
    confidence: ["least confident", (row) => mean(row.words.map((word) => word[3]))],
    longest: ["longest", (row) => -(row.duration ?? 0)],
    shortest: ["shortest", (row) => row.duration ?? Infinity],
    input: ["order of the input", (row) => row.index],
  };
  if (report.utterances.some((row) => row.loss !== undefined)) {
    return { loss: ["highest loss", (row) => -(row.loss ?? Infinity)], ...known };
  }
  if (!report.comparison) return known;
  return {
    change: ["largest change", (row) => -Math.abs(row.change ?? 0)],
    better: ["most improved", (row) => row.change ?? 0],
    worse: ["most worsened", (row) => -(row.change ?? 0)],
    ...known,
  };
}

function filters(report) {
  const texts = (row) => row.hypotheses.map((hypothesis) => hypothesis?.text);
  const known = {
    all: ["all", () => true],
    wrong: ["with errors", (row, decoder) => row.hypotheses[decoder]?.errors > 0],
    perfect: ["without errors", (row, decoder) => row.hypotheses[decoder]?.errors === 0],
    disagree: ["decoders disagree", (row) => new Set(texts(row)).size > 1],
    unknown: ["without a reference", (row) => row.reference === null && !row.error],
    failed: ["failed", (row) => Boolean(row.error)],
    warning: ["with a warning", (row) => Boolean(row.warning)],
  };
  if (!report.comparison) return known;
  return {
    changed: ["changed", (row) => new Set(texts(row)).size > 1],
    better: ["better in the second", (row) => row.change < 0 && row.change !== null],
    worse: ["worse in the second", (row) => row.change > 0],
    ...known,
  };
}

class UtteranceList {
  constructor(report) {
    this.report = report;
    this.orders = orders(report);
    this.filters = filters(report);
    this.state = { decoder: report.decoders.length - 1, search: "", filter: Object.keys(this.filters)[0], order: Object.keys(this.orders)[0], confusion: null };
    if (!report.num_scored && !report.comparison) this.state.order = "input";
    this.count = element("span", { class: "muted", id: "count", "aria-live": "polite" });
    this.chosen = element("button", { type: "button", hidden: "", onclick: () => this.set({ confusion: null }) });
    this.list = element("div", { id: "utterances" });
    this.estimate = 150;
    this.observer = new IntersectionObserver((entries) => entries.forEach((entry) => this.draw(entry.target, entry.isIntersecting)), { rootMargin: "1200px" });
    addEventListener("beforeprint", () => this.showAll(MAX_PRINTED));
    addEventListener("afterprint", () => this.update());
  }

  controls() {
    const search = element("input", { type: "search", id: "search", "aria-label": "search", placeholder: "file, speaker or text", oninput: (event) => this.set({ search: event.target.value }) });
    const named = (entries) => Object.entries(entries).map(([key, [label]]) => [key, label]);
    const filter = choice("filter", named(this.filters), this.state.filter, (value) => this.set({ filter: value }));
    const order = choice("order", named(this.orders), this.state.order, (value) => this.set({ order: value }));
    filter.id = "filter";
    order.id = "order";
    return element("div", { class: "controls" }, search, filter, order, this.chosen, this.count);
  }

  set(changes) {
    Object.assign(this.state, changes);
    this.update();
  }

  matches(row) {
    const { search, filter, decoder, confusion } = this.state;
    if (!this.filters[filter][1](row, decoder)) return false;
    if (confusion) {
      const hypothesis = row.hypotheses[decoder];
      if (row.reference === null || !hypothesis) return false;
      if (!confusionsOf(row.reference, hypothesis, this.report.unit).some((each) => each.join("\t") === confusion.join("\t"))) return false;
    }
    if (!search.trim()) return true;
    row.haystack ??= [row.path, row.speaker ?? "", row.reference ?? "", row.error ?? "", row.warning ?? "", ...row.hypotheses.map((hypothesis) => hypothesis?.text ?? "")].join("\n").toLowerCase();
    return row.haystack.includes(search.trim().toLowerCase());
  }

  update() {
    const key = this.orders[this.state.order][1];
    const keyed = this.report.utterances.filter((row) => this.matches(row)).map((row) => [key(row, this.state.decoder), row]);
    this.rows = keyed.sort((a, b) => (a[0] === b[0] ? a[1].index - b[1].index : a[0] - b[0])).map(([, row]) => row);
    this.count.textContent = `${number(this.rows.length)} of ${number(this.report.utterances.length)}`;
    const { confusion } = this.state;
    this.chosen.hidden = confusion === null;
    this.chosen.textContent = confusion ? `${confusion[1] || "(nothing)"} → ${confusion[2] || "(nothing)"}  ×` : "";
    this.observer.disconnect();
    this.list.replaceChildren();
    for (let start = 0; start < this.rows.length; start += BLOCK) {
      const size = Math.min(BLOCK, this.rows.length - start);
      const block = element("div", { class: "block", style: `min-height:${size * this.estimate}px` });
      block.start = start;
      this.list.append(block);
      this.observer.observe(block);
    }
    if (!this.rows.length) this.list.append(element("p", { class: "muted" }, "no utterance matches"));
  }

  draw(block, visible) {
    const drawn = block.childElementCount > 0;
    if (visible && !drawn) {
      const rows = this.rows.slice(block.start, block.start + BLOCK);
      block.append(...rows.map((row, index) => utteranceCard(row, block.start + index + 1, this.report, this.state.decoder)));
      block.style.minHeight = "";
    } else if (!visible && drawn && !block.contains(document.activeElement) && !Array.from(block.querySelectorAll("audio")).some((audio) => !audio.paused)) {
      const height = block.getBoundingClientRect().height;
      if (height) this.estimate = height / block.childElementCount;
      block.style.minHeight = `${height}px`;
      block.replaceChildren();
    }
  }

  showAll(limit) {
    this.observer.disconnect();
    for (const block of Array.from(this.list.querySelectorAll(".block"))) {
      if (block.start < limit) this.draw(block, true);
      else block.remove();
    }
  }
}
