// The board. The server sends it whenever it changes. This script moves one player, and tells the
// server.

import { $ } from "/assets/demo.js";

const size = { x: 1000, y: 600 };
const speed = 420; // a second
const every = 20; // ms between two moves, at least
let socket, me, at, target;
const ahead = 40; // how far the player may be ahead of an answer: less than the server allows for one move
let sent = 0; // when the last move was sent
let waiting; // the place that was sent, until the server answers
const held = new Set();
const tapped = new Set(); // keys pressed since the last frame: a short press counts, too

// ---- The server

function connect() {
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/game/socket`);
  socket.onmessage = (e) => {
    waiting = undefined;
    show(JSON.parse(e.data));
  };
  socket.onclose = (e) => {
    at = target = waiting = undefined;
    moved = false;
    if (e.code === 1008) return over(e.reason); // the server has ended the game
    state("busy", "The server does not respond. Trying again.");
    setTimeout(connect, 1000);
  };
}

function over(reason) {
  $("board").classList.add("over");
  state("bad", `The game is over: ${reason}.`);
  $("again").hidden = false;
}

function state(kind, text) {
  if ($("state").textContent === text) return;
  $("state").dataset.state = kind;
  $("state").textContent = text;
}

// ---- What is on the board

const color = (id) => `hsl(${[...id].reduce((sum, c) => (sum * 31 + c.charCodeAt(0)) % 360, 7)} 60% 50%)`;
const shown = new Map(); // the elements on the board

function element(key, kind) {
  let el = shown.get(key);
  if (!el) {
    el = document.createElement("div");
    el.className = kind;
    $("board").append(el);
    shown.set(key, el);
  }
  return el;
}

function put(el, { x, y }) {
  el.style.left = `${(100 * x) / size.x}%`;
  el.style.top = `${(100 * y) / size.y}%`;
}

function show(b) {
  me = b.you;
  const mine = b.players[me];
  // Another tab may have moved the player.
  if (!at || (!moved && performance.now() - sent > 500)) at = { x: mine.x, y: mine.y };
  for (const [key, coin] of Object.entries(b.coins)) put(element(key, "coin"), coin);
  for (const [id, player] of Object.entries(b.players)) {
    const el = element(id, id === me ? "player me" : "player");
    el.style.setProperty("--mine", color(id));
    el.title = player.name;
    if (!el.firstChild) el.append(document.createElement("span"));
    el.firstChild.textContent = id === me ? "" : player.name;
    el.firstChild.style.translate = `${(-100 * player.x) / size.x}% 0`; // inside of the board
    el.classList.toggle("top", player.y < 80);
    put(el, id === me ? at : player);
  }
  for (const [key, el] of shown) {
    if (key in b.coins || key in b.players) continue;
    el.remove();
    shown.delete(key);
  }
  showPlayers(b.players);
  const alone = Object.keys(b.players).length === 1;
  state("good", `You have ${mine.coins} ${mine.coins === 1 ? "coin" : "coins"}.${alone ? " Nobody else is here." : ""}`);
}

function showPlayers(players) {
  const rows = Object.entries(players).sort(([, a], [, b]) => b.coins - a.coins || a.name.localeCompare(b.name));
  const text = JSON.stringify(rows.map(([id, p]) => [id, p.name, p.coins]));
  if ($("players").dataset.shown === text) return; // only a place has changed
  $("players").dataset.shown = text;
  $("players").replaceChildren(...rows.map(([id, p]) => {
    const li = document.createElement("li");
    li.append(document.createElement("i"), document.createElement("span"), document.createElement("b"));
    li.style.setProperty("--mine", color(id));
    li.children[1].textContent = id === me ? `${p.name} (you)` : p.name;
    li.children[2].textContent = p.coins;
    return li;
  }));
}

// ---- The player's moves

const keys = {
  ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1],
  KeyA: [-1, 0], KeyD: [1, 0], KeyW: [0, -1], KeyS: [0, 1],
};

$("board").addEventListener("keydown", (e) => {
  if (!keys[e.code] || e.ctrlKey || e.metaKey || e.altKey) return;
  e.preventDefault(); // no scrolling
  held.add(e.code);
  tapped.add(e.code);
  target = undefined;
});
document.addEventListener("keyup", (e) => held.delete(e.code));
$("board").addEventListener("blur", () => held.clear());

function aim(e) {
  const box = $("board").getBoundingClientRect();
  target = { x: (size.x * (e.clientX - box.left)) / box.width, y: (size.y * (e.clientY - box.top)) / box.height };
}
$("board").addEventListener("pointerdown", (e) => {
  $("board").setPointerCapture(e.pointerId);
  aim(e);
});
$("board").addEventListener("pointermove", (e) => e.buttons && aim(e));

// heading returns the direction of the next move, and how far the player wants to go.
function heading() {
  let [x, y] = [0, 0];
  for (const code of new Set([...held, ...tapped])) [x, y] = [x + keys[code][0], y + keys[code][1]];
  if (target) [x, y] = [target.x - at.x, target.y - at.y];
  const length = Math.hypot(x, y);
  return length < 1 ? undefined : { x: x / length, y: y / length, length: target ? length : Infinity };
}

let last = 0;
let moved = false; // the server does not know the place yet

function move(now) {
  requestAnimationFrame(move);
  const step = (speed * Math.min(now - last, 50)) / 1000;
  last = now;
  if (!at || socket.readyState !== WebSocket.OPEN) return;
  // If the server is slow, the player stops. Otherwise the moves would arrive all at once.
  if (waiting && Math.hypot(at.x - waiting.x, at.y - waiting.y) + step > ahead) return;
  const to = heading();
  tapped.clear();
  if (to) {
    const limit = (n, max) => Math.max(0, Math.min(max, n));
    at.x = limit(at.x + to.x * Math.min(step, to.length), size.x);
    at.y = limit(at.y + to.y * Math.min(step, to.length), size.y);
    put(shown.get(me), at);
    moved = true;
  } else if (target) {
    target = undefined;
  }
  const [x, y] = [Math.round(at.x), Math.round(at.y)];
  if (!moved || waiting || now - sent < every) return; // the rest of a move goes with a later frame
  sent = now;
  moved = false;
  waiting = { x, y };
  socket.send(JSON.stringify({ x, y }));
}

$("again").addEventListener("click", () => location.reload());
connect();
requestAnimationFrame(move);
$("board").focus({ preventScroll: true });
