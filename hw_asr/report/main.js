// The page: which sections it has and in which order.

const report = JSON.parse(document.getElementById("report-data").textContent);
const page = document.getElementById("page");

function rateCells(rate) {
  const [substitutions, deletions, insertions, length] = rate.counts;
  return [percent(rate.corpus), element("td", { class: "range" }, percentRange(rate.interval)), percent(rate.mean),
    element("td", { class: "range", title: `of ${number(length)}` }, `${number(substitutions)} / ${number(deletions)} / ${number(insertions)}`)];
}

function headline() {
  const head = ["decoder", "WER", "95 % interval", "mean", "S / D / I", "CER", "95 % interval", "mean", "S / D / I", "no errors"];
  const rows = report.headline.map((line) => [line.decoder, ...rateCells(line.wer), ...rateCells(line.cer), percent(line.perfect, 1)]);
  return section("Error rates", "WER and CER are of the whole corpus: all edits over all reference words or characters. " +
    "Intervals are by bootstrap over utterances. Mean is the mean of the utterances' own rates. S / D / I: substituted, deleted, inserted.",
    element("div", { class: "scroll" }, table(head, rows, { class: "headline", id: "headline" })));
}

function differences() {
  const { differences: found, better, worse, same, left_out: leftOut } = report.comparison;
  const signed = (value) => `${value > 0 ? "+" : value < 0 ? "−" : ""}${Math.abs(100 * value).toFixed(2)}`;
  const rows = Object.entries(found).map(([unit, each]) => [unit === "words" ? "WER" : "CER", `${signed(each.difference)} points`,
    each.interval ? `${signed(each.interval[0])} to ${signed(each.interval[1])}` : "–", number(each.bootstrap_p), number(each.matched_pairs_p)]);
  const few = Object.values(found).some((each) => each.interval === null) ? "Too few recordings to tell: at least 20 with a reference are needed. " : "";
  const counts = [["better in the second", better], ["worse", worse], ["as many errors", same], ...Object.entries(leftOut).filter(([, count]) => count)];
  return section("Difference", few + "Second minus first; below zero the second is better. p: how likely such a difference is by chance " +
    "(paired bootstrap over utterances; matched pairs after Gillick and Cox). Values below 0.05 are usually called significant.",
    element("div", { class: "scroll" }, table(["", "difference", "95 % interval", "p, bootstrap", "p, matched pairs"], rows, { id: "differences" })), facts(counts));
}

function confusionTable(title, entries, list, clickable) {
  const visible = (token) => (token === " " ? "␣" : token);
  const texts = (entry) => entry.slice(0, 2).map(visible).filter((token) => token !== "");
  const rows = entries.map(([wanted, got, count]) => {
    const line = element("tr", {}, element("td", { class: "text", dir: "auto" }, texts([wanted, got]).join(" → ")), element("td", {}, number(count)));
    if (clickable) {
      line.className = "confusion";
      line.title = "show these utterances";
      line.tabIndex = 0;
      line.setAttribute("role", "button");
      const show = () => { list.set({ confusion: [clickable, wanted, got] }); document.getElementById("search").scrollIntoView({ behavior: "smooth" }); };
      line.addEventListener("click", show);
      line.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault(); // Space scrolls
        show();
      });
    }
    return line;
  });
  const body = rows.length ? table(["", "count"], rows) : element("p", { class: "muted" }, "none");
  return element("div", { class: "panel" }, element("h3", {}, title), element("div", { class: "tall" }, body));
}

function analysis(list) {
  const holder = element("div", { id: "analysis" });
  const render = () => {
    const decoder = list.state.decoder;
    const figures = element("div", { class: "panels wide" }), panels = element("div", { class: "panels" });
    const figure = (title, content) => figures.append(element("div", { class: "panel" }, element("h3", {}, title), content));
    if (report.durations[decoder].length) figure("By length of the recording", barTable(report.durations[decoder], "length"));
    if (report.speakers[decoder].length) figure("By speaker", barTable(report.speakers[decoder], "speaker"));
    if (report.calibration) {
      const { error, words, right } = report.calibration;
      const title = "Confidence of words against how often they are right";
      figure(title, reliability(title, report.calibration));
      last(Array.from(figures.children)).append(element("p", { class: "note" },
        `${number(words)} words, ${percent(right, 1)} right; expected calibration error ${percent(error, 1)}. On the dashed line confidence means what it says.`));
    }
    const names = { replace: "Substituted", delete: "Deleted", insert: "Inserted" };
    for (const unit of ["words", "characters"]) {
      for (const [kind, entries] of Object.entries(report.confusions[decoder][unit] ?? {})) {
        panels.append(confusionTable(`${names[kind]} ${unit}`, entries, list, report.unit + "s" === unit ? kind : null));
      }
    }
    holder.replaceChildren(figures, panels);
  };
  const select = choice("decoder", report.decoders.map((name, index) => [String(index), name]), list.state.decoder, (value) => { list.set({ decoder: Number(value) }); render(); });
  select.id = "decoder";
  render();
  return section("Where the errors are", null, element("p", {}, "Decoder: ", select), holder);
}

function training(data) {
  const panels = element("div", { class: "panels wide" });
  const draw = (logarithmic) => panels.replaceChildren(...data.charts.map((chart) => curves(chart, logarithmic)));
  const show = (value, line) => (line.is_rate ? percent(value) : number(value));
  const rows = data.bests.map((line) => [line.name, show(line.best, line), number(line.step), show(line.last, line)]);
  const box = element("input", { type: "checkbox", id: "logarithmic", onchange: (event) => draw(event.target.checked) });
  draw(false);
  return section("Training", null, facts(data.facts),
    rows.length ? element("div", { class: "tall scroll" }, table(["metric", "best (lowest)", "at step", "last"], rows, { id: "bests" })) : null,
    element("p", { class: "note" }, element("label", {}, box, " logarithmic scale")), panels);
}

function build() {
  const sections = [facts(report.totals)];
  if (report.utterances) {
    report.utterances.forEach((row, index) => { row.index = index; });
    const list = new UtteranceList(report);
    if (report.headline.length) sections.push(headline());
    else sections.push(element("p", { class: "note" }, report.utterances.length
      ? "No utterance has a reference: there is nothing to score, only to read." : "The output is empty: nothing was recognised."));
    if (report.comparison) sections.push(differences());
    if (report.headline.length) sections.push(analysis(list));
    if (report.training) sections.push(training(report.training));
    if (report.utterances.length) sections.push(section("Utterances", report.audio_note, list.controls(), list.list));
    page.replaceChildren(...sections);
    list.update();
    return;
  }
  page.replaceChildren(...sections, training(report.training));
}

document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement;
  root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
});
if (matchMedia("(prefers-color-scheme: dark)").matches) document.documentElement.dataset.theme = "dark";
addEventListener("beforeprint", () => { document.documentElement.dataset.screenTheme = document.documentElement.dataset.theme ?? ""; document.documentElement.dataset.theme = "light"; });
addEventListener("afterprint", () => { document.documentElement.dataset.theme = document.documentElement.dataset.screenTheme; });
build();
