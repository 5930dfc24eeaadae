/* mtad: page views of people who agreed. <script async src="https://t.example.com/v.js" data-consent="yes"></script>
or, once they agree, mtad.consent(). Nothing is sent, kept or read before. */
(function (w, d) {
  var me = d.currentScript, at = new URL(me.src).origin, url = new URL(location.href), token = url.searchParams.get("mtad"), on = 0, was;
  if (token) {
    url.searchParams.delete("mtad");
    history.replaceState(history.state, "", url);
  }
  function known() {
    return (d.cookie.match(/(?:^|; )mtad=([\w-]{36})/) || [])[1];
  }
  function keep(visitor) {
    d.cookie = "mtad=" + visitor + ";path=/;max-age=15552000;samesite=lax" + (location.protocol == "https:" ? ";secure" : "");
  }
  function view() {
    var here = location.origin + location.pathname, visitor = known();
    if (!on || here == was || !(token || visitor)) return;
    if (d.prerendering) {
      d.addEventListener("prerenderingchange", view, { once: true });
      return;
    }
    was = here;
    var said = JSON.stringify({ url: here, token: token || "", visitor: visitor || "", consent: true });
    if (!token) {
      if (navigator.sendBeacon) navigator.sendBeacon(at + "/v", said);
      return;
    }
    token = "";
    fetch(at + "/v", { method: "POST", body: said, credentials: "omit", keepalive: true })
      .then(function (answer) { return answer.ok ? answer.json() : {}; })
      .then(function (answer) { if (answer.visitor) keep(answer.visitor); })
      .catch(function () {});
  }
  w.mtad = {
    consent: function () { on = 1; view(); },
    withdraw: function () { on = 0; was = ""; d.cookie = "mtad=;path=/;max-age=0"; },
    view: view
  };
  if (me.dataset.consent == "yes") w.mtad.consent();
})(window, document);
