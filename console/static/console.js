// Keeps the live parts of a page new, and shows times in the reader's time zone. The pages work without it.

const showTimes = (part) => {
  for (const time of part.querySelectorAll("time[datetime]")) {
    const moment = new Date(time.dateTime);
    if (!Number.isNaN(moment.valueOf())) {
      time.title = time.dateTime;
      time.textContent = moment.toLocaleString(undefined, { dateStyle: "short", timeStyle: "medium" });
    }
  }
};

// A form that is being filled in is not taken away under the reader's hands.
const isInUse = (part) => part.contains(document.activeElement) && document.activeElement.matches("input, select, textarea");

const replace = (part, html) => {
  if (isInUse(part)) return;
  const open = new Set([...part.querySelectorAll("details")].flatMap((one, at) => (one.open ? [at] : [])));
  part.innerHTML = html; // made by the server, which escapes what others wrote
  [...part.querySelectorAll("details")].forEach((one, at) => { one.open = one.open || open.has(at); });
  showTimes(part);
};

const follow = (url, onMessage) => {
  const source = new EventSource(url);
  source.onmessage = onMessage;
  // A refused stream is closed for good: the login has ended, so the page leads to it.
  source.onerror = () => { if (source.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 1000); };
  addEventListener("pagehide", () => source.close());
  return source;
};

for (const part of document.querySelectorAll("[data-live]")) {
  follow(part.dataset.live, (event) => replace(part, JSON.parse(event.data)));
}

for (const part of document.querySelectorAll("[data-part]")) {
  if (part.querySelector(".state.running, .state.pending, .state.input_required") === null) continue;
  let waiting = false;
  const load = async () => {
    waiting = false;
    const reply = await fetch(part.dataset.part, { headers: { accept: "text/html" }, redirect: "error" }).catch(() => null);
    if (reply?.ok) replace(part, await reply.text());
  };
  const source = follow(part.dataset.events, () => {
    if (!waiting) { waiting = true; setTimeout(load, 300); }
  });
  // 204 ends the stream: the task has ended.
  source.onerror = () => { if (source.readyState === EventSource.CLOSED) load(); };
}

// `taskmill console` prints an address with the token behind #, which no server and no log sees.
const form = document.querySelector("[data-login]");
if (form && location.hash.length > 1) {
  form.elements.token.value = decodeURIComponent(location.hash.slice(1));
  history.replaceState(null, "", location.pathname + location.search);
  form.requestSubmit();
}

showTimes(document);
