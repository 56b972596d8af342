// One utterance: its texts with the edits coloured, its player, its words in time.

function splitTokens(text, unit) {
  if (unit === "character") return Array.from(text);
  return text === "" ? [] : text.split(" ");
}

// Edits of a hypothesis as [kind, reference tokens, hypothesis tokens]; equal stretches have the kind "equal".
function stretches(reference, hypothesis, unit) {
  const wanted = splitTokens(reference, unit), got = splitTokens(hypothesis.text, unit);
  const found = [];
  let position = 0;
  for (const [kind, start, end, from, to] of hypothesis.edits) {
    if (start > position) found.push(["equal", wanted.slice(position, start), []]);
    found.push([kind, wanted.slice(start, end), got.slice(from, to)]);
    position = end;
  }
  if (position < wanted.length) found.push(["equal", wanted.slice(position), []]);
  return found;
}

// What was said and what was heard, one [kind, reference token, hypothesis token] for every error.
function confusionsOf(reference, hypothesis, unit) {
  return stretches(reference, hypothesis, unit).flatMap(([kind, wanted, got]) =>
    kind === "equal" ? [] : Array.from({ length: Math.max(wanted.length, got.length) }, (_, index) => [kind, wanted[index] ?? "", got[index] ?? ""]));
}

function coloured(reference, hypothesis, unit) {
  const gap = unit === "word" ? " " : "";
  const line = element("div", { class: `transcript ${unit}s`, dir: "auto" });
  for (const [kind, wanted, got] of stretches(reference, hypothesis, unit)) {
    if (kind === "equal") { line.append(wanted.join(gap), gap); continue; }
    for (let index = 0; index < Math.max(wanted.length, got.length); index++) {
      // Copied and read aloud, a substitution is two words.
      if (kind === "replace") line.append(element("span", { class: kind }, element("del", {}, wanted[index]), " ", element("ins", {}, got[index])), gap);
      else if (kind === "delete") line.append(element("del", { class: kind }, wanted[index]), gap);
      else line.append(element("ins", { class: kind }, got[index]), gap);
    }
  }
  if (!line.textContent.trim()) line.append(element("span", { class: "muted" }, "(nothing)"));
  return line;
}

function plain(text) {
  return element("div", { class: "transcript", dir: "auto" }, text || element("span", { class: "muted" }, "(nothing)"));
}

function player(row) {
  const clip = row.clip ? document.getElementById(row.clip) : null;
  const piece = row.offset === null ? "" : `#t=${row.offset},${row.offset + (row.duration ?? 0)}`;
  const source = clip ? clip.textContent : row.href && row.href + piece;
  if (!source) return null;
  const audio = element("audio", { controls: "", preload: "none", src: source });
  audio.addEventListener("error", () => audio.replaceWith(element("p", { class: "note" }, `this browser cannot play ${row.path}`)));
  return audio;
}

// Where the player's time 0 is on the clock of the recording: a clip of a piece begins at the piece.
function origin(row) {
  return row.clip ? row.offset ?? 0 : 0;
}

function wordChips(row, audio) {
  return element("div", { class: "words", dir: "auto" }, ...row.words.map(([word, start, end, confidence]) => {
    const colour = confidence === null ? "" : `background:color-mix(in srgb, var(--delete) ${Math.round(100 * (1 - confidence))}%, transparent)`;
    const play = () => { if (audio) { audio.currentTime = start - origin(row); audio.play(); } };
    return element("button", { class: "word", type: "button", style: colour, title: `${start.toFixed(2)}–${end.toFixed(2)} s; play from here`, onclick: play },
      word, element("small", { dir: "ltr" }, `${start.toFixed(2)} s · ${percent(confidence, 0)}`));
  }));
}

// A long recording by its segments: play from the start of each.
function segmentLines(row, audio) {
  const lines = row.segments.map(([start, end, text]) => {
    const play = () => { if (audio) { audio.currentTime = start - origin(row); audio.play(); } };
    const time = element("button", { type: "button", class: "time", title: "play from here", onclick: play }, `${clock(start)}–${clock(end)}`);
    return [element("td", {}, time), element("td", { class: "text transcript", dir: "auto", style: "white-space:normal" }, text)];
  });
  return element("div", { class: "tall scroll" }, table(["time", element("th", { class: "text" }, "segment")], lines, { class: "segments" }));
}

function clock(time) {
  const whole = Math.floor(time);
  const two = (value) => String(value).padStart(2, "0");
  return `${Math.floor(whole / 3600)}:${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
}

function moreAbout(row, decoders, audio) {
  const lists = row.hypotheses.map((hypothesis, index) => [decoders[index], hypothesis ? hypothesis.alternatives : []]).filter(([, list]) => list.length > 1);
  if (!row.words.length && !lists.length) return null;
  const details = element("details", {}, element("summary", {}, "words in time, confidences, alternatives"));
  details.addEventListener("toggle", () => {
    if (details.childElementCount > 1) return;
    if (row.words.length) details.append(wordChips(row, audio));
    for (const [name, list] of lists) {
      const rows = list.map(([text, probability]) => [element("td", { class: "text transcript", dir: "auto", style: "white-space:normal" }, text), number(probability)]);
      details.append(element("div", { class: "scroll" }, table([element("th", { class: "text" }, name), "probability"], rows)));
    }
  });
  return details;
}

function errors(count) {
  return `${number(count)} error${count === 1 ? "" : "s"}`;
}

function badge(row, decoder) {
  const hypothesis = row.hypotheses[decoder];
  if (row.error) return element("span", { class: "badge bad" }, "failed");
  if (row.warning && row.reference === null) return element("span", { class: "badge bad" }, "warning");
  if (row.reference === null || !hypothesis) return element("span", { class: "badge" }, "no reference");
  const text = `WER ${percent(hypothesis.wer, 0)} · CER ${percent(hypothesis.cer, 0)} · ${errors(hypothesis.errors)}`;
  return element("span", { class: `badge ${hypothesis.errors ? "bad" : "good"}` }, text);
}

function utteranceCard(row, rank, report, decoder) {
  const audio = player(row);
  const texts = element("div", { class: "texts" });
  const line = (who, content) => texts.append(element("div", { class: "who" }, who), content);
  if (row.error) line("error", plain(row.error));
  if (row.warning) line("warning", plain(row.warning));
  if (row.reference !== null) line("reference", plain(row.reference));
  row.hypotheses.forEach((hypothesis, index) => {
    if (!hypothesis) return;
    line(report.decoders[index], row.reference === null ? plain(hypothesis.text) : coloured(row.reference, hypothesis, report.unit));
  });
  const label = { class: "file", dir: "ltr", title: row.path };
  const name = element(row.href ? "a" : "span", { ...label, href: row.href }, row.path.split(/[\\/]/).pop() + (row.offset === null ? "" : ` at ${seconds(row.offset)}`));
  const change = row.change ? element("span", { class: `badge ${row.change > 0 ? "bad" : "good"}` }, `${row.change > 0 ? "+" : "−"}${errors(Math.abs(row.change))}`) : null;
  const loss = row.loss === undefined ? null : element("span", { title: "nats per character" }, `loss ${row.loss === null ? "infinite" : row.loss.toFixed(2)}`);
  return element("article", { class: "utterance", "data-path": row.path },
    element("header", {}, element("span", {}, `${rank}.`), name, row.speaker === null ? null : element("span", { dir: "auto" }, `speaker ${row.speaker}`),
      element("span", {}, seconds(row.duration)), loss, badge(row, decoder), change),
    audio, texts, row.segments.length > 1 ? segmentLines(row, audio) : null, moreAbout(row, report.decoders, audio));
}
