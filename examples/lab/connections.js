// The connections: a row for each peer, with the two halves of its connection in the loop.

import { bytes, byId, element, seconds, setText } from "./elements.js";

const PEER_ACTIONS = [
  ["line", "Send a line"],
  ["megabyte", "Send 1 MiB"],
  ["stop-reading", "Stop reading"],
  ["flood", "Flood"],
  ["half-close", "Half-close"],
  ["leave", "Leave"],
  ["reset", "Reset"],
];

/** Builds the row of a peer. It is built once, so that its buttons keep the focus. */
function buildPair(name) {
  const buttons = PEER_ACTIONS.map(([action, text]) => element("button", { "data-do": action, "data-peer": name }, text));
  const part = (kind, ...children) => element("div", { class: kind }, ...children);
  const pill = () => element("span", { class: "pill" });
  const pair = part(
    "pair",
    part("peer", part("name", element("span", { class: "letter" }, name), element("strong", {}, `Peer ${name}`), element("span", { class: "says" })), part("facts"), part("buttons", ...buttons)),
    part(
      "server",
      part("name", element("strong", { class: "id" }), element("span", { class: "ready" }), element("span", { class: "pill warn stalled" })),
      part("half read", element("span", {}, "read half"), pill(), element("span", { class: "facts" })),
      part("half write", element("span", {}, "write half"), pill(), element("span", { class: "facts" })),
      part("buffer", part("fill"), part("mark", element("span", {}, "low")), part("mark", element("span", {}, "high"))),
    ),
  );
  pair.append(part("backlog facts", "waits in the kernel's backlog: the listener has not accepted it yet"));
  pair.dataset.name = name;
  pair.setAttribute("role", "group");
  pair.setAttribute("aria-label", `Peer ${name}`);
  return pair;
}

/** Draws the peers and their connections. `now` is the time of the laboratory. */
export function drawPeers(site, loop, now) {
  const holder = byId("peers");
  const names = site.peers.map((peer) => peer.name);
  for (const pair of [...holder.children]) if (!names.includes(pair.dataset.name)) pair.remove();
  site.peers.forEach((peer, index) => {
    let pair = [...holder.children].find((child) => child.dataset.name === peer.name);
    if (!pair) {
      pair = buildPair(peer.name);
      holder.insertBefore(pair, holder.children[index] ?? null);
    }
    drawPair(pair, peer, loop.slots.find((slot) => slot.connection?.peer === peer.name), now);
  });
  byId("nobody").hidden = names.length > 0;
  const isFull = site.peers.filter((peer) => !peer.ended).length >= 8;
  byId("connect").disabled = isFull;
  byId("connect").title = isFull ? "The laboratory has at most eight peers: let one leave first" : "";
}

function drawPair(pair, peer, slot, now) {
  const find = (selector) => pair.querySelector(selector);
  const says = peer.ended
    ? `is gone: ${peer.ended}`
    : [peer.reading ? "" : "does not read", peer.flooding ? "floods" : "", peer.pingPong ? "ping-pong" : "", peer.halfClosed ? "has ended its side" : "", peer.eof ? "has seen the server's end" : ""].filter(Boolean).join(", ");
  setText(find(".says"), says);
  const unread = slot ? Math.max(0, slot.connection.out - peer.received) : 0;
  const parts = [`sent ${bytes(peer.sent)}`, `read ${bytes(peer.received)}`];
  if (peer.unsent) parts.push(`${bytes(peer.unsent)} to send`);
  if (unread && !peer.ended) parts.push(`${bytes(unread)} unread`);
  setText(find(".peer .facts"), parts.join(" · "));
  for (const button of pair.querySelectorAll("button")) button.disabled = Boolean(peer.ended);
  toggle(pair, "stop-reading", "read", !peer.reading, ["Stop reading", "Read again"]);
  toggle(pair, "flood", "stop-flood", peer.flooding, ["Flood", "Stop sending"]);
  pair.classList.toggle("gone", !slot);
  find(".backlog").hidden = Boolean(slot || peer.ended);
  if (slot) drawServerSide(find, slot, now);
}

function toggle(pair, off, on, isOn, texts) {
  const button = pair.querySelector(`[data-do="${off}"], [data-do="${on}"]`);
  button.dataset.do = isOn ? on : off;
  setText(button, texts[Number(isOn)]);
}

const STATE_KINDS = { open: "good", paused: "warn", discarding: "warn", draining: "warn", broken: "bad" };

function drawServerSide(find, slot, now) {
  const { connection } = slot;
  setText(find(".server .id"), slot.id);
  const since = connection.stalledSince;
  setText(find(".stalled"), since === null ? "" : `stalled for ${seconds(now - since)}, since ${seconds(since)}`);
  setText(find(".ready"), `readiness: ${connection.ready === "again" ? "nothing" : connection.ready}`);
  for (const [half, text] of [["read", `${bytes(connection.in)} in`], ["write", `${bytes(connection.out)} out${connection.buffered ? `, ${bytes(connection.buffered)} buffered` : ""}`]]) {
    const pill = find(`.${half} .pill`);
    setText(pill, connection[half]);
    pill.className = `pill ${STATE_KINDS[connection[half]] ?? ""}`;
    setText(find(`.${half} .facts`), text);
  }
  const scale = Math.max(connection.high * 1.25, connection.buffered * 1.05);
  const fill = find(".fill");
  fill.style.width = `${(100 * connection.buffered) / scale}%`;
  fill.classList.toggle("warn", connection.paused);
  const [low, high] = find(".buffer").querySelectorAll(".mark");
  low.style.left = `${(100 * connection.low) / scale}%`;
  high.style.left = `${(100 * connection.high) / scale}%`;
  find(".buffer").title = `write buffer: ${bytes(connection.buffered)}`;
  find(".buffer").setAttribute("role", "img");
  find(".buffer").setAttribute("aria-label", `write buffer: ${bytes(connection.buffered)}, low-water mark ${bytes(connection.low)}, high-water mark ${bytes(connection.high)}`);
}
