"use strict";
// Asks for the page again every two seconds, and shows it where it has become another. Details stay as open as they were.
let tag = null;
setInterval(async () => {
	if (document.hidden || document.activeElement?.tagName === "INPUT") return;
	try {
		const answer = await fetch(location.href, tag ? { headers: { "If-None-Match": tag }, cache: "no-store" } : { cache: "no-store" });
		if (answer.status === 304) return;
		tag = answer.headers.get("ETag");
		const next = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main");
		const open = new Set([...document.querySelectorAll("details[open] summary")].map((s) => s.textContent));
		for (const d of next.querySelectorAll("details")) d.open = open.has(d.querySelector("summary").textContent);
		document.querySelector("main").replaceWith(next);
		document.body.classList.remove("away");
	} catch {
		document.body.classList.add("away");
	}
}, 2000);
