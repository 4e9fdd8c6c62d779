// The page: it shows the state that the server sends, and sends commands.
//
// Invariant: the page draws only the last state, at most once per frame. Apart from the log lines
// that it has shown, it keeps nothing that the server does not know.
//
// Read next: `connections.js`, the peers and their connections; `elements.js`.

import { drawPeers } from "./connections.js";
import { byId, element, micros, plural, seconds, setList, setText } from "./elements.js";

const PHASES = ["timeout", "poll", "events", "queue", "timers"];
const PHASE_NAMES = ["time to sleep", "poll", "events", "queue", "timers"];
const ADVISED = { "Run": "run", "One turn": "turn-button" };
const INTRODUCTION = [...byId("look").children];

let state = null; // the last state, while the laboratory answers
let scenarios = [];
let shownScenario = null;
let offset = 0; // the time of the page minus the time of the laboratory
let rate = { turns: 0, calls: 0 };
let lastRateSample = null;
let advised = "call"; // the button that the text says to press first
let lastChange = 0; // when a turn or a step last changed something

const now = () => performance.now() - offset;

// ---- commands

let lastCommand = Promise.resolve();

/** Sends a command after the one before: two requests may overtake each other. */
function send(command) {
  if (command.do === "scenario") post(command); // takes long, and the others must not wait for it
  else lastCommand = lastCommand.then(() => post(command));
}

async function post(command) {
  show("");
  try {
    const answer = await fetch("/do", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(command),
    });
    const { error } = await answer.json();
    if (error) show(error);
  } catch {
    show(NO_ANSWER);
  }
}

const NO_ANSWER = "The laboratory does not answer. Start it again, and this page continues.";

function show(error) {
  setText(byId("error"), error);
  clearTimeout(show.timer);
  show.timer = setTimeout(() => setText(byId("error"), ""), 4000);
}

const isHeld = () => state.site.pace === "held" || state.site.pace === "turn";
const slowMotion = () => send({ do: "slow", rate: Number(byId("rate").value) });
const runOrHold = () => send({ do: isHeld() || state.site.pace === "slow" ? "run" : "hold" });

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button || !state) return;
  if (button.id === "run") runOrHold();
  else if (button.id === "slow") state.site.pace === "slow" ? send({ do: "hold" }) : slowMotion();
  else if (button.dataset.scenario) play(button.dataset.scenario);
  else if (button.dataset.do) send({ do: button.dataset.do, peer: button.dataset.peer ?? "" });
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !state) return;
  const key = event.key.toLowerCase();
  // A select uses Space, and letters to search; the names of the rates begin with no letter.
  if (event.target.closest("#choice") || (key === " " && event.target.closest("select"))) return;
  if (key === " " && !event.target.closest("a")) runOrHold(); // Enter presses a button
  else if (key === "t") send({ do: "turn" });
  else if (key === "c") send({ do: "call" });
  else if (key === "s") slowMotion();
  else return;
  event.preventDefault();
});

// Some browsers press a button when Space is released.
document.addEventListener("keyup", (event) => event.key === " " && event.target.closest("button") && event.preventDefault());

byId("rate").addEventListener("change", () => state?.site.pace === "slow" && slowMotion());
byId("choice").addEventListener("change", (event) => event.target.value && play(event.target.value));

/** The focus moves to the text, so that the next Space runs the loop, and a screen reader reads it. */
function play(name) {
  send({ do: "scenario", name });
  byId("look").focus({ preventScroll: true });
}

// ---- drawing

function draw() {
  if (!state?.loop) return;
  const { site, loop } = state;
  const held = site.waiting && site.pace !== "slow";
  const busy = rate.turns > 50;
  const current = site.waiting ? PHASES.indexOf(loop.phase) : busy ? -1 : PHASES.indexOf(site.phase);
  // The sample was taken before the turn that is under way.
  const isUnderWay = !site.waiting && !busy && loop.phase === "timeout";
  drawScenario(site);
  drawControls(site);
  drawStatus(held, busy);
  drawTurn(loop, current, isUnderWay);
  drawSlots(loop);
  drawPeers(site, loop, now());
  drawLog(loop.log);
}

function drawControls(site) {
  const run = byId("run");
  const runs = site.pace === "run";
  if (run.dataset.runs !== String(runs)) {
    run.dataset.runs = String(runs);
    run.replaceChildren(runs ? "Hold " : "Run ", element("kbd", {}, "Space"));
  }
  for (const id of ["run", "turn-button", "call"]) byId(id).classList.toggle("main", !runs && id === advised);
  byId("slow").setAttribute("aria-pressed", String(site.pace === "slow"));
}

/** Says in a sentence what the loop is doing. */
function describe(held, busy) {
  const { site, loop } = state;
  const waiting = loop.events.filter(([, , fate]) => fate === "waiting").length;
  const nextTimer = loop.timers.length ? loop.timers[0][0] - now() : null;
  const queued = loop.phase === "timers" ? 0 : loop.queueLeft ?? loop.queueCount;
  if (site.waiting) {
    const next = waiting
      ? `${plural(waiting, "event")} to deliver`
      : queued
        ? `${plural(queued, "call")} from the queue`
        : loop.timerCount
          ? "the timers that are due, and the turn ends"
          : "the end of the turn";
    const start = site.pace === "slow" ? "Slow motion" : "Held";
    switch (loop.phase) {
      case "timeout": {
        const sleep = loop.queueCount
          ? "it will not sleep, because the queue has entries"
          : nextTimer === null
            ? "it may sleep until something happens"
            : nextTimer > 0
              ? `it may sleep for ${seconds(nextTimer)}, until the next timer`
              : "it will not sleep, because a timer is due";
        return `${start} where turn ${loop.turn + 1} begins. Next is the poll: ${sleep}.`;
      }
      case "poll":
        return `${start} after the poll of turn ${loop.turn}${loop.eventCount ? "" : ", which reported no event"}. Next: ${next}.`;
      default:
        return `${start} in turn ${loop.turn}, between two calls. Next: ${next}.`;
    }
  }
  if (busy) return `The loop runs: ${Math.round(rate.turns).toLocaleString("en")} turns and ${Math.round(rate.calls).toLocaleString("en")} calls a second.`;
  if (site.phase !== "poll" && now() - lastChange > 150) return `A call has held the loop for ${seconds(now() - lastChange)}. Meanwhile, no peer is served.`;
  const until = nextTimer === null ? "until something happens" : `until the next timer, in ${seconds(nextTimer)}`;
  const then = isHeld() ? " It will be held when it wakes." : "";
  return `The loop sleeps in its poll ${until}.${then}`;
}

function drawStatus(held, busy) {
  const text = describe(held, busy);
  setText(byId("status"), text);
  // A screen reader speaks each step, but not the figures of a loop that runs.
  setText(byId("live"), held ? text.replace(/[\d.]+ s,/, "a while,") : "");
}

/** How long the next poll may sleep. */
function longestSleep(loop) {
  if (loop.phase !== "timeout") return "";
  if (loop.queueCount) return "0 s";
  return loop.timers.length ? seconds(loop.timers[0][0] - now()) : "no limit";
}

function drawTurn(loop, current, isUnderWay) {
  drawRing(loop, current);
  PHASES.forEach((_, index) => {
    const item = byId("phases").children[index];
    item.toggleAttribute("aria-current", index === current);
    const time = index === current ? "…" : "";
    setText(item.lastChild, index === 0 ? longestSleep(loop) : isUnderWay ? time : micros(loop.times[index]));
  });
  const name = (id) => id ?? "a closure";
  const events = loop.events.map(([id, ready, fate]) => [id ?? "another thread", ready, fate]);
  setList(byId("events"), isUnderWay ? [] : more(events, loop.eventCount), ([id, ready, fate]) => {
    const text = { waiting: "waiting", delivered: "delivered", stale: "dropped", queued: "joins its queued call" }[fate] ?? "";
    return element("li", {}, element("span", { class: "id" }, id), ` ${ready} `, element("span", { class: `fate ${fate}` }, text));
  }, isUnderWay ? "not known yet" : "none");
  setList(byId("queue"), more(loop.queue.map((id) => [name(id)]), loop.queueCount), ([text]) => element("li", {}, text));
  const timers = loop.timers.map(([at, id]) => [name(id), seconds(at - now())]);
  setList(byId("timers"), more(timers, loop.timerCount), ([text, left]) => element("li", {}, text, left ? ` in ${left}` : ""));
}

const more = (items, count) => (count > items.length ? [...items, [`and ${count - items.length} more`, "", ""]] : items);

function drawRing(loop, current) {
  const ring = byId("ring");
  if (!ring.childElementCount) {
    const shape = (tag, attributes, text = "") => {
      const created = document.createElementNS("http://www.w3.org/2000/svg", tag);
      for (const [key, value] of Object.entries(attributes)) created.setAttribute(key, value);
      created.textContent = text;
      ring.append(created);
    };
    const at = (radius, angle) => `${(radius * Math.sin(angle)).toFixed(1)} ${(-radius * Math.cos(angle)).toFixed(1)}`;
    const fifth = (2 * Math.PI) / 5;
    PHASES.forEach((_, index) => {
      const [from, to] = [index * fifth + 0.035, (index + 1) * fifth - 0.035];
      const path = `M${at(104, from)}A104 104 0 0 1 ${at(104, to)}L${at(62, to)}A62 62 0 0 0 ${at(62, from)}Z`;
      shape("path", { d: path });
      const [x, y] = at(83, (index + 0.5) * fifth).split(" ");
      shape("text", { x, y }, String(index + 1));
    });
    shape("text", { x: 0, y: -14, class: "caption" }, "turn");
    shape("text", { x: 0, y: 8, class: "number" });
  }
  PHASES.forEach((_, index) => {
    for (const part of [ring.children[2 * index], ring.children[2 * index + 1]]) part.classList.toggle("now", index === current);
  });
  const starts = loop.phase === "timeout"; // the sample was taken where a turn begins
  setText(ring.lastChild, String(loop.turn + (starts ? 1 : 0)));
}

function drawSlots(loop) {
  const slots = loop.slots.map((slot) => [slot.id, slot.type, slot.pending, slot.connection?.peer ?? null]);
  const shown = slots.findLastIndex(([, type]) => type) + 3; // two vacant slots after the last one in use
  const hidden = slots.length - shown;
  if (hidden > 0) slots.splice(shown, hidden, [plural(hidden, "more vacant slot")]);
  setList(byId("slots"), slots, ([id, type, pending, peer]) => {
    if (type === undefined) return element("li", { class: "vacant" }, id);
    if (!type) {
      const [slot, generation] = id.split(".");
      return element("li", { class: "vacant" }, `slot ${slot}: vacant, next id ${slot}.${Number(generation) + 1}`);
    }
    const item = element("li", { class: pending === null ? "" : "queued" }, element("span", { class: "id" }, id), type.split("<")[0]);
    if (peer) item.append(element("span", { class: "letter" }, peer));
    if (pending !== null) item.append(element("span", { class: "pill" }, "queued"));
    return item;
  });
}

let nextEntry = 0;

function drawLog(entries) {
  const log = byId("log");
  const fresh = entries.filter(([number]) => number >= nextEntry);
  if (!fresh.length) return;
  const follows = log.scrollTop + log.clientHeight >= log.scrollHeight - 30;
  // For a loop at full speed, a few entries are enough, and the page stays fast.
  if (fresh[0][0] > nextEntry) fresh.splice(0, fresh.length - 8);
  const missed = fresh[0][0] - nextEntry;
  if (missed > 0) log.append(element("li", { class: "gap" }, `${missed.toLocaleString("en")} more, not shown`));
  for (const [number, kind, text, chapter] of fresh) {
    log.append(element("li", { class: kind }, `${text} `, element("a", { href: `/guide/${chapter}`, target: "_blank" }, `${chapter} →`)));
    nextEntry = number + 1;
  }
  while (log.childElementCount > 200) log.firstChild.remove();
  if (follows) log.scrollTop = log.scrollHeight;
}

function drawScenario(site) {
  if (site.scenario === shownScenario) return;
  shownScenario = site.scenario;
  const scenario = scenarios.find(({ name }) => name === site.scenario);
  for (const button of byId("list").children) button.setAttribute("aria-current", String(button.dataset.scenario === site.scenario));
  byId("choice").value = site.scenario;
  advised = ADVISED[scenario?.look.join().match(/Press “([^”]+)”/i)?.[1]] ?? "call";
  if (!scenario) return byId("look").replaceChildren(...INTRODUCTION);
  const buttons = scenario.then.map(([text, action, peer]) => element("button", { "data-do": action, "data-peer": peer }, text));
  byId("look").replaceChildren(
    element("ol", {}, ...scenario.look.map((text) => element("li", {}, text))),
    element("div", { class: "buttons" }, ...buttons),
    element("a", { href: `/guide/${scenario.chapter}`, target: "_blank" }, `Chapter: ${scenario.chapter} →`),
  );
}

// ---- the beginning

function receive(text) {
  const received = JSON.parse(text);
  offset = performance.now() - received.clock;
  if (received.loop) {
    const sample = received.loop;
    if (lastRateSample && sample.at - lastRateSample.at >= 250) {
      const time = (sample.at - lastRateSample.at) / 1000;
      rate = { turns: (sample.turn - lastRateSample.turn) / time, calls: (sample.calls - lastRateSample.calls) / time };
      lastRateSample = sample;
    }
    lastRateSample ??= sample;
    const before = state?.loop;
    if (!before || before.turn !== sample.turn || before.calls !== sample.calls || received.site.phase === "poll" || received.site.waiting) lastChange = now();
  }
  if (received.site.logFrom !== state?.site.logFrom) {
    byId("log").replaceChildren();
    nextEntry = received.site.logFrom;
  }
  state = received;
  request();
}

let requested = false;

function request() {
  if (requested) return;
  requested = true;
  requestAnimationFrame(() => {
    requested = false;
    draw();
  });
}

// Update the times while the loop sleeps.
setInterval(() => {
  if (state) setText(byId("clock"), seconds(now()));
  if (state?.loop && now() - state.loop.at > 300) rate = { turns: 0, calls: 0 };
  if (state) request();
}, 200);

PHASE_NAMES.forEach((name) => byId("phases").append(element("li", {}, element("span", {}, name), element("span", { class: "time" }))));
[...byId("phases").children].forEach((item, index) => item.firstChild.prepend(`${index + 1} `));

const answer = await fetch("/scenarios");
scenarios = await answer.json();
byId("choice").append(element("option", { value: "" }, "Choose…"));
for (const { name, title } of scenarios) {
  byId("list").append(element("button", { "data-scenario": name }, title));
  byId("choice").append(element("option", { value: name }, title));
}
const source = new EventSource("/events");
source.onmessage = (event) => receive(event.data);
source.onopen = () => {
  state = lastRateSample = shownScenario = null; // it may be another laboratory
  rate = { turns: 0, calls: 0 };
  byId("main").inert = false;
};
source.onerror = () => {
  state = null;
  setText(byId("status"), NO_ANSWER);
  byId("main").inert = true;
};
