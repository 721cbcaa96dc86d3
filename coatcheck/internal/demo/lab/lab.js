// The two races of the lab.

import { $, begin, post, session, show, sleep } from "/assets/demo.js";

// ---- Running a race

function verdict(id, state, text) {
  $(id).dataset.state = state;
  $(id).textContent = text;
}

// lab runs one race at a time, and shows the error if the race fails.
function lab(button, verdictID, run) {
  $(button).addEventListener("click", async () => {
    if ($("add").ariaDisabled === "true") return;
    $("add").ariaDisabled = $("end").ariaDisabled = "true"; // "disabled" would remove the focus
    try {
      await run();
    } catch (err) {
      verdict(verdictID, "bad", err instanceof TypeError ? "The server did not respond. Is it still running?" : err.message);
    } finally {
      $("add").ariaDisabled = $("end").ariaDisabled = null;
    }
  });
}

// ---- No write is lost

async function add(cell) {
  cell.dataset.state = "sent";
  const answer = await post("/lab/add", null, "application/json");
  if (!answer.ok) {
    cell.dataset.state = "failed";
    cell.textContent = "×";
    return null;
  }
  const { count } = await answer.json();
  cell.dataset.state = "done";
  cell.textContent = count;
  return count;
}

async function runAdd() {
  const cells = [...$("cells").children];
  for (const cell of cells) {
    delete cell.dataset.state;
    cell.textContent = "";
  }
  for (const id of ["before", "expected", "after"]) $(id).textContent = "…";
  verdict("add-verdict", "busy", `${cells.length} requests are running.`);
  const before = (await begin()).count;
  const expected = before + cells.length;
  $("before").textContent = before;
  $("expected").textContent = expected;

  const answers = await Promise.all(cells.map(add));
  const s = await session();
  show(s);
  $("after").textContent = s.count;
  const different = new Set(answers.filter((n) => n !== null)).size;
  if (s.count === expected && different === cells.length) {
    verdict("add-verdict", "good", `No increment is lost: ${cells.length} requests got ${cells.length} different counts.`);
  } else if (s.count > expected && different === cells.length) {
    verdict("add-verdict", "good", `No increment is lost. Another request, perhaps of another tab, added ${s.count - expected} more.`);
  } else {
    verdict("add-verdict", "bad", `Expected ${cells.length} different counts and a final count of ${expected}: got ${different} and ${s.count}.`);
  }
}

// ---- Ended is ended

const slower = window.slower ?? 1; // set by tests, because a machine may stop for a moment
const pause = 1500 * slower; // how long the slow request waits, in ms
const signOutAt = 500 * slower;
const scale = 2000 * slower; // how many ms the width of a lane shows

// lane sends one request and draws it from its start to its response. It returns whether the
// response is as expected.
async function lane(id, began, request, judge) {
  const bar = document.querySelector(`#${id} .bar`);
  const outcome = document.querySelector(`#${id} .outcome`);
  const percent = (ms) => `${Math.min(100, (100 * ms) / scale)}%`;
  const start = performance.now() - began;
  let running = true;
  const draw = () => {
    bar.style.left = percent(start);
    bar.style.width = percent(performance.now() - began - start);
    if (running) requestAnimationFrame(draw);
  };
  outcome.textContent = "running";
  draw();
  try {
    const answer = await request();
    const [good, text] = judge(answer);
    $(id).dataset.state = good ? "good" : "bad";
    outcome.textContent = text;
    return good;
  } catch (err) {
    $(id).dataset.state = "bad";
    outcome.textContent = "no response";
    throw err;
  } finally {
    running = false;
  }
}

const noSession = (s) => (s.handle ? [false, `found ${s.handle}`] : [true, "no session"]);

async function runEnd() {
  for (const li of document.querySelectorAll(".lanes li")) {
    delete li.dataset.state;
    li.querySelector(".bar").style.width = 0;
    li.querySelector(".outcome").textContent = "–";
  }
  verdict("end-verdict", "busy", "The slow request is running.");
  const before = await begin();
  show(before);

  const began = performance.now();
  const slow = lane("lane-slow", began, () => post(`/lab/slow?ms=${pause}`), (a) =>
    a.status === 409 ? [true, "409, refused"] : [false, `${a.status}, written`]);
  const look = lane("lane-look", began, () => session(pause), noSession);
  const out = sleep(signOutAt).then(() => lane("lane-out", began, () => post("/sign-out"), (a) => [a.ok, `${a.status}, signed out`]));
  out.then((ok) => ok && verdict("end-verdict", "busy", "Signed out. The slow request is still running."), () => {});
  const results = await Promise.all([slow, look, out]);
  results.push(await lane("lane-next", began, session, noSession));

  show(await session());
  if (results.every(Boolean)) {
    verdict("end-verdict", "good", `Session ${before.handle} stays ended. Your next visit starts a new session.`);
  } else {
    verdict("end-verdict", "bad", "The race did not end as it should: see the red bars.");
  }
}

lab("add", "add-verdict", runAdd);
lab("end", "end-verdict", runEnd);
