// The landing page: a room name, typed or suggested, becomes the address of a room.

const WORDS = {
  first: ["amber", "bright", "calm", "clear", "early", "gentle", "golden", "green", "kind", "light", "mild", "open",
    "quiet", "silver", "soft", "still", "sunny", "warm", "wide", "young"],
  second: ["bay", "bridge", "brook", "field", "forest", "garden", "harbour", "hill", "island", "lake", "meadow",
    "morning", "orchard", "river", "shore", "spring", "summit", "valley", "willow", "wind"],
};

/** Largest room name: the server refuses a longer one. */
const ROOM_BYTES_MAX = 256;

/** Returns a name that nobody else is likely to pick at the same time: 20 x 20 x 9000. */
export function suggestion(random = crypto.getRandomValues(new Uint32Array(3))) {
  const { first, second } = WORDS;
  return `${first[random[0] % first.length]}-${second[random[1] % second.length]}-${1000 + (random[2] % 9000)}`;
}

/** Returns `{ room }` for the address, or `{ fault }` in words. */
export function roomFrom(typed) {
  const room = typed.trim().replace(/\s+/g, "-").toLowerCase();
  if (room === "") return { fault: "Type a name for the room." };
  if (room === "." || room === "..") return { fault: "A name needs at least one letter or digit." };
  if (/[/\\?#%\p{Cc}]/u.test(room)) return { fault: "A name cannot contain / \\ ? # or %." };
  if (new TextEncoder().encode(room).length > ROOM_BYTES_MAX) return { fault: "This name is too long: use at most 250 letters." };
  return { room };
}

function start() {
  const form = document.getElementById("enter");
  const input = document.getElementById("room");
  const fault = document.getElementById("room-fault");
  let suggested = suggestion();
  input.placeholder = suggested;

  document.getElementById("another").addEventListener("click", () => {
    suggested = suggestion();
    input.placeholder = suggested;
    input.value = "";
    fault.textContent = "";
    input.focus();
  });
  input.addEventListener("input", () => {
    fault.textContent = "";
    input.removeAttribute("aria-invalid");
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    // An empty field means: the name that it shows.
    const result = roomFrom(input.value === "" ? suggested : input.value);
    if (result.fault) {
      fault.textContent = result.fault;
      input.setAttribute("aria-invalid", "true");
      input.focus();
      return;
    }
    location.assign(`/rooms/${encodeURIComponent(result.room)}`);
  });
  input.focus({ preventScroll: true });
}

start();
