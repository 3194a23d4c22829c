// The page that asks for the server's key once; from then on the browser sends a cookie.
// A plain script, read before the form is there: whoever types at once and presses Enter is heard as well.
{
  const words = import("./words.js");
  addEventListener("DOMContentLoaded", async () => (await words).translate());

  document.addEventListener("submit", async (event) => {
    event.preventDefault();
    const { say } = await words;
    const field = document.getElementById("key");
    const problem = document.getElementById("problem");
    problem.textContent = "";
    let response;
    try {
      response = await fetch("/api/key", {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ key: field.value }),
      });
    } catch {
      problem.textContent = say("The server can't be reached. Is `palmier serve` still running?");
      return;
    }
    if (response.ok) {
      location.reload();
      return;
    }
    problem.textContent = say("This is not the key.");
    if (response.status !== 401) problem.textContent = say("The server answered {status}.", { status: response.status });
    field.select();
  });
}
