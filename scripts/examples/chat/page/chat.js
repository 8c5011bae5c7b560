// The chat's page. What others write becomes text nodes only, never markup.

"use strict";

const SAME_GROUP = 300; // seconds within which one's messages stand together
const MAX_SHOWN = 500; // messages of a room
const SHORTEST_PAUSE = 250, LONGEST_PAUSE = 8000; // milliseconds between attempts to connect

// Those that look well with white letters, apart from each other.
const HUES = [15, 45, 150, 185, 225, 262, 295, 325, 355];

const byId = (id) => document.getElementById(id);

// Who we are; nobody before the door is passed. `key` makes the name ours.
let session = null;

// By name: { name, joined, messages, ids, people, unread, item }
const rooms = new Map();
let current = null;

// The open WebSocket; without one, messages go by requests of their own.
let socket = null;
let unheard = []; // what went by it and did not come back yet: { text, heard, failed }
let socketsWork = "WebSocket" in window && !new URLSearchParams(location.search).has("poll");

// ---- the server ----

function path(...words) {
  return "/" + words.map(encodeURIComponent).join("/") + "?key=" + session.key;
}

// Where to listen: what came after the last thing heard comes too, whichever process answers.
function pathAfter(mine, kind) {
  return path(kind, mine.name) + "&after=" + encodeURIComponent(mine.after);
}

async function request(method, target, form) {
  const response = await fetch(target, { method, body: form && new URLSearchParams(form) });
  const text = await response.text();
  const answer = text ? JSON.parse(text) : null;
  if (!response.ok) {
    throw Object.assign(new Error(answer?.error ?? response.statusText),
                        { status: response.status });
  }
  return answer;
}

const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

// Opens a WebSocket; the promise is for its end. If the first one never opens, none will.
function listenBySocket(mine) {
  return new Promise((ended) => {
    const ws = new WebSocket(location.origin.replace(/^http/, "ws") + pathAfter(mine, "ws"));
    mine.stop = () => ws.close();
    ws.onopen = () => {
      mine.hadSocket = true;
      socket = ws;
      showLine("on", "live");
    };
    ws.onmessage = (event) => handle(mine, JSON.parse(event.data));
    ws.onclose = () => {
      socket = null;
      socketsWork = mine.hadSocket;
      unheard.splice(0).forEach(({ failed }) => failed());
      ended();
    };
  });
}

async function listenByPolls(mine) {
  while (mine === session) {
    showLine("on", "connected");
    for (const event of await request("POST", pathAfter(mine, "poll"))) {
      handle(mine, event);
    }
  }
}

// Follows what happens until we leave, through lost connections too.
async function listen(mine) {
  while (mine === session) {
    try {
      await (socketsWork ? listenBySocket(mine) : listenByPolls(mine));
    } catch {
      // The connection is lost, or the server does not know us any more.
    }
    await joinAgain(mine);
  }
}

// What was said meanwhile is in the rooms' backlogs.
async function joinAgain(mine) {
  for (let wait = SHORTEST_PAUSE; mine === session; wait = Math.min(wait * 2, LONGEST_PAUSE)) {
    showLine("off", "reconnecting");
    await pause(wait * (0.75 + Math.random() / 2));
    try {
      for (const room of rooms.values()) {
        if (room.joined && mine === session) {
          await join(room);
        }
      }
      return;
    } catch (problem) {
      if (problem.status === 409 && mine === session) {
        forget("Somebody else has the name now.");
      }
    }
  }
}

// ---- rooms ----

async function join(room) {
  const answer = await request("GET", path(room.name, session.name));
  room.joined = true;
  room.people = answer.people;
  session.after ??= answer.last;
  for (const message of answer.messages) {
    keep(room, message);
  }
  if (room === current) {
    showPeople();
  }
}

// Remembers a message, unless it is known; returns whether it was new.
function keep(room, message) {
  if (room.ids.has(message.id)) {
    return false;
  }
  room.ids.add(message.id);
  add(room, message);
  return true;
}

function add(room, item) {
  room.messages.push(item);
  if (room.messages.length > MAX_SHOWN) {
    room.ids.delete(room.messages.shift().id);
  }
  if (room === current) {
    showItem(item, room.messages.at(-2));
  }
}

// What we have said has come back, as a message or refused.
function hear(text, how) {
  const at = unheard.findIndex((one) => one.text === text);
  if (at >= 0) {
    unheard.splice(at, 1)[0][how]();
  }
}

function handle(mine, event) {
  if (mine !== session) {
    return;
  }
  const room = rooms.get(event.room);
  if (event.type === "error") {
    hear(event.message, "failed");
  } else if (event.type === "message") {
    mine.after = event.id;
    if (event.from === mine.name) {
      hear(event.text, "heard");
    }
    if (keep(room, event) && (room !== current || document.hidden)) {
      room.unread += 1;
      showRooms();
    }
  } else if (event.type === "join" || event.type === "leave") {
    room.people = room.people.filter((name) => name !== event.name);
    if (event.type === "join") {
      room.people.push(event.name);
    }
    add(room, event);
    if (room === current) {
      showPeople();
    }
  }
}

async function open(room) {
  current = room;
  room.unread = 0;
  byId("log").replaceChildren();
  room.messages.forEach((item, i) => showItem(item, room.messages[i - 1]));
  showRooms();
  showPeople();
  if (!room.joined) {
    await join(room);
  }
  showEmpty();
  byId("text").placeholder = "Message #" + room.name;
  byId("text").focus();
}

// ---- what is seen ----

function make(tag, className, text) {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text ?? "";
  return element;
}

// The same colour for a name on everybody's page.
function hueOf(name) {
  let sum = 0;
  for (const letter of name) {
    sum = (sum * 41 + letter.codePointAt(0)) % 65521;
  }
  return HUES[sum % HUES.length];
}

function dress(avatar, name) {
  avatar.textContent = [...name][0];
  avatar.style.setProperty("--hue", hueOf(name));
}

function showPerson(element, name) {
  const avatar = make("span", "avatar");
  dress(avatar, name);
  element.classList.add("person");
  element.replaceChildren(avatar, make("span", "", name));
  return element;
}

function showPeople() {
  const names = [...current.people].sort((a, b) => a.localeCompare(b));
  byId("people").replaceChildren(...names.map((name) => showPerson(make("li", ""), name)));
  byId("count").textContent = names.length === 1 ? "only you" : names.length + " people";
}

function showRooms() {
  let unread = 0;
  for (const room of rooms.values()) {
    const button = room.item.firstChild;
    button.replaceChildren(room.name);
    if (room.unread) {
      button.append(make("span", "unread", room.unread));
    }
    button.toggleAttribute("aria-current", room === current);
    unread += room.unread;
  }
  byId("title").textContent = current.name;
  document.title = (unread ? "(" + unread + ") " : "") + "#" + current.name + " · Moonlet chat";
}

function showLine(state, text) {
  byId("line").className = "line " + state;
  byId("line").textContent = text;
}

function showEmpty() {
  if (!byId("log").firstChild) {
    byId("log").append(make("li", "news empty", "Nobody has said anything here yet."));
  }
}

function messageElement(message, before) {
  const element = byId("message").content.firstElementChild.cloneNode(true);
  const date = new Date(message.time * 1000);
  const time = element.querySelector("time");
  element.classList.toggle("own", message.from === session.name);
  element.classList.toggle("more", before?.type === "message" && before.from === message.from &&
                                   message.time - before.time < SAME_GROUP);
  element.style.setProperty("--hue", hueOf(message.from));
  dress(element.querySelector(".avatar"), message.from);
  element.querySelector(".from").textContent = message.from;
  element.querySelector(".text").textContent = message.text;
  time.textContent = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  time.dateTime = date.toISOString();
  time.title = date.toLocaleString();
  return element;
}

// Appends to the log, which stays at its end if it was there.
function showItem(item, before) {
  const log = byId("log");
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
  log.querySelector(".empty")?.remove();
  if (item.type === "message") {
    log.append(messageElement(item, before));
  } else {
    log.append(make("li", "news", item.name + (item.type === "join" ? " came in" : " left")));
  }
  while (log.childElementCount > MAX_SHOWN) {
    log.firstChild.remove();
  }
  if (atEnd || item.from === session.name) {
    log.scrollTop = log.scrollHeight;
  }
}

// ---- coming and going ----

function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function makeRooms(list) {
  rooms.clear();
  for (const { name } of list) {
    const item = make("li", "");
    const button = make("button", "");
    const room = { name, item, joined: false, messages: [], ids: new Set(), people: [],
                   unread: 0 };
    button.type = "button";
    button.onclick = () => open(room).catch(() => showLine("off", "reconnecting"));
    item.append(button);
    rooms.set(name, room);
  }
  byId("rooms").replaceChildren(...Array.from(rooms.values(), (room) => room.item));
}

async function enter(name, key) {
  const mine = session = { name, key, stop() {} };
  makeRooms(await request("GET", path(name)));
  const first = rooms.values().next().value;
  current = first;
  await join(first);
  sessionStorage.setItem("chat", JSON.stringify({ name, key }));
  showPerson(byId("me"), name);
  byId("door").hidden = true;
  byId("chat").hidden = false;
  byId("log").replaceChildren();
  await open(first);
  listen(mine);
}

function showDoor(refusal) {
  byId("chat").hidden = true;
  byId("door").hidden = false;
  byId("refusal").textContent = refusal ?? "";
  byId("name").focus();
}

function forget(refusal) {
  session?.stop();
  session = null;
  sessionStorage.removeItem("chat");
  document.title = "Moonlet chat";
  showDoor(refusal);
}

async function tryEnter(name, key) {
  try {
    await enter(name, key);
  } catch ({ status }) {
    forget(status === 409 ? "Somebody has this name already."
           : status ? "A name has up to 24 characters, and no slash."
           : "The server cannot be reached.");
  }
}

// ---- saying something ----

// The promise is kept when everybody has it, and broken when nobody may.
function say(text) {
  if (!socket) {
    return request("POST", path("put", current.name, session.name), { message: text });
  }
  return new Promise((heard, failed) => {
    unheard.push({ text, heard, failed });
    socket.send(JSON.stringify({ room: current.name, message: text }));
  });
}

function fit() {
  const field = byId("text");
  field.style.height = "auto";
  field.style.height = field.scrollHeight + 2 + "px";
}

byId("enter").onsubmit = (event) => {
  event.preventDefault();
  const name = byId("name").value.trim();
  if (name) {
    tryEnter(name, newKey());
  }
};

byId("say").onsubmit = async (event) => {
  event.preventDefault();
  const field = byId("text");
  const text = field.value;
  if (!text.trim()) {
    return;
  }
  field.value = "";
  fit();
  field.focus();
  try {
    await say(text);
  } catch {
    field.value = text + (field.value && "\n") + field.value; // still to be said
    fit();
  }
};

byId("text").oninput = fit;
byId("text").onkeydown = (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    byId("say").requestSubmit();
  }
};

byId("leave").onclick = () => {
  navigator.sendBeacon(path("leave", session.name));
  forget();
};

window.onpagehide = () => session && navigator.sendBeacon(path("leave", session.name));

document.onvisibilitychange = () => {
  if (!document.hidden && current) {
    current.unread = 0;
    showRooms();
  }
};

const known = JSON.parse(sessionStorage.getItem("chat"));
if (known) {
  tryEnter(known.name, known.key);
} else {
  showDoor();
}
