"use strict";
// Asks for the page every two seconds, and puts what has changed in place. Without it, pages show what was there when they were asked for.
let tag = "";
const find = (e) => [...document.querySelectorAll("main :is(a, button, input, select, summary, pre)")].find((other) => name(other) === name(e));
const name = (e) => [e.tagName, e.form?.id, e.name, e.type === "checkbox" || e.tagName === "BUTTON" ? e.value : e.href, e.closest("details, tr")?.querySelector("b, label, a, summary")?.textContent].join();
addEventListener("input", (event) => (event.target.dataset.begun = "yes"));

function put(next) {
	const focused = document.activeElement, range = [focused.selectionStart, focused.selectionEnd];
	const begun = document.querySelectorAll("main [data-begun], main details[open] > summary");
	document.querySelector("main").replaceWith(next);
	for (const was of begun) {
		const now = find(was);
		if (now?.tagName === "SUMMARY") now.parentElement.open = true;
		else if (now) [now.value, now.checked, now.dataset.begun] = [was.value, was.checked, "yes"];
	}
	const now = focused.isConnected ? null : find(focused);
	now?.focus({ preventScroll: true });
	if (now?.type === "search") now.setSelectionRange(...range);
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
