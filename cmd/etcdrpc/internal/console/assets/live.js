"use strict";
// Asks for the page every two seconds, and puts what has changed in place. Without it, pages show what was there when they were asked for.
let tag = "";
const all = () => [...document.querySelectorAll("main :is(a, button, input, select, summary, pre)")];
const name = (e) => [e.tagName, e.form?.id, e.name, e.type === "checkbox" || e.tagName === "BUTTON" ? e.value : e.href, (e.closest("tr") ?? e.closest("details"))?.querySelector("b, label, a, summary")?.textContent].join();
addEventListener("input", (event) => (event.target.dataset.begun = "yes"));

// put keeps what is open, what has been begun to fill in, and the focus.
function put(next) {
	const focused = document.activeElement, range = [focused.selectionStart, focused.selectionEnd];
	const left = document.querySelector(".scroll")?.scrollLeft;
	const before = new Map(all().filter((e) => e === focused || e.dataset.begun || e.parentElement.open).map((e) => [name(e), e]));
	document.querySelector("main").replaceWith(next);
	if (left) document.querySelector(".scroll")?.scrollTo(left, 0);
	for (const now of all()) {
		const was = before.get(name(now));
		if (was?.tagName === "SUMMARY") now.parentElement.open = was.parentElement.open;
		if (was?.dataset.begun) [now.value, now.checked, now.dataset.begun] = [was.value, was.checked, "yes"];
		if (was && was === focused) now.focus({ preventScroll: true });
		if (was && was === focused && now.type === "search") now.setSelectionRange(...range);
	}
}

async function ask() {
	if (document.hidden) return;
	const away = document.getElementById("away");
	try {
		const answer = await fetch(location.href, { headers: { "If-None-Match": tag }, cache: "no-store", signal: AbortSignal.timeout(10000) });
		if (answer.status >= 500) throw answer;
		if (answer.status !== 304 && answer.headers.get("ETag") !== tag) {
			put(new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main"));
			tag = answer.headers.get("ETag");
		}
		if (away.textContent) away.textContent = "";
	} catch {
		if (!away.textContent) away.textContent = "The console does not answer: what is shown may be old.";
	}
}
(async () => {
	for (;; await new Promise((done) => setTimeout(done, 2000))) await ask();
})();
