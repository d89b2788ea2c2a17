"""Texts that would do harm if a page took them for markup, and a look at whether one of them has."""

from __future__ import annotations

from playwright.sync_api import BrowserContext, Page

#: Each calls ``hacked()``, or adds something that no page of ours has, if it is taken for HTML, an attribute or an
#: address. These have no slash and at most 40 bytes, so they are file names and user names too.
SHORT_TEXTS = (
    "<img src=x onerror=hacked()>",
    '"><svg onload=hacked()>',
    "'><svg onload=hacked()>",
    '" autofocus onfocus=hacked() x="',
    "' autofocus onfocus=hacked() x='",
    "<a href=javascript:hacked()>me",
    "javascript:hacked()",
    "JaVaScRiPt&colon;hacked()",
    "--><svg onload=hacked()>",
    "&lt;svg onload=hacked()&gt;",
    "<details open ontoggle=hacked()>",
    "<base href=x:>",
    "<style>*{opacity:0}",
)
TEXTS = (
    *SHORT_TEXTS,
    "<script>hacked()</script>",
    "</script><script>hacked()</script>",
    "</title></textarea></style></template><svg/onload=hacked()>",
    "<iframe srcdoc='<script>parent.hacked()</script>'></iframe>",
    "<object data='data:text/html,<script>parent.hacked()</script>'></object>",
    "<form action=javascript:hacked()><button formaction=javascript:hacked()>Go</button></form>",
    "<meta http-equiv=refresh content='0;url=javascript:hacked()'>",
    "data:text/html,<script>parent.hacked()</script>",
)
#: Ways in which a careless page could show a text.
CARELESS_PAGE = """<p>{0}</p><p title="{0}"></p><p title='{0}'></p><a href="{0}"></a><template>{0}</template>"""

#: Elements and attributes that can do something and that no page of ours has, also in shadow trees and templates.
_INJECTED = """() => {
  const found = [];
  const look = (root) => {
    for (const element of root.querySelectorAll("*")) {
      const { localName: tag, attributes, shadowRoot, content } = element;
      if (/^(iframe|object|embed|base|math|details|style|form)$/.test(tag) && !element.matches("form[method=post]"))
        found.push(tag);
      if (tag === "script" && !element.src.startsWith(location.origin)) found.push(tag);
      for (const { name, value } of attributes) {
        const isLink = /^(.*href|src|(form)?action|data|poster)$/.test(name) && /^(javascript|data):/i.test(value);
        if (/^on|^srcdoc$|^http-equiv$/.test(name) || isLink) found.push(`${tag} ${name}=${value}`);
      }
      if (shadowRoot) look(shadowRoot);
      if (content instanceof DocumentFragment) look(content);
    }
  };
  look(document);
  return found;
}"""


def injected(page: Page) -> list[str]:
    """What is on the page that can have come there only by a text that was taken for markup."""
    found: list[str] = page.evaluate(_INJECTED)
    return found


def record_scripts(context: BrowserContext, record: list[str]) -> None:
    """Note in the record whenever one of the texts is run as a script in the context, from its next page on."""
    context.expose_binding("hacked", lambda source: record.append(f"a script ran on {source['page'].url}"))
