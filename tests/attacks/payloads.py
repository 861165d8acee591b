"""
Addresses that lead elsewhere, or look as if they did: the published classes of open redirects, multiplied.

Each class once cost somebody an advisory: two slashes and what browsers take for them, control characters
that they drop, escapes that the next one decodes, authorities with two readings, other schemes.
"""

from itertools import product

#: What stands before the name of the attacker's host.
LEADS = (
    # Scheme-relative, and what browsers make of backslashes.
    *(
        "//",
        "///",
        "////",
        "/////",
        "/\\",
        "\\\\",
        "\\/",
        "/\\/",
        "//\\",
        "/\\\\",
        "\\\\\\",
        "/\\/\\",
        "///\\;@",
    ),
    # Tab, line feed and carriage return are taken out by browsers; others are not, but by somebody.
    *(
        "/\t/",
        "/\n/",
        "/\r/",
        "/\r\n/",
        "/\t\\",
        "\t//",
        "\n//",
        "\r\n//",
        " //",
        "\x00//",
        "\x0b//",
        "\x0c//",
    ),
    *(
        "/\x00/",
        "/\x0b/",
        "/\x1f/",
        "/\x7f/",
        "/ /",
        "/\t\t/",
        "/\u00a0/",
        "/\u2028/",
        "/\u200b/",
        "/\ufeff/",
    ),
    # Encoded once, and twice.
    *("/%09/", "/%0a/", "/%0A/", "/%0d/", "/%0d%0a/", "/%00/", "/%20/", "/%0b/", "/%09%5c", "/%c2%a0/"),
    *(
        "/%2f",
        "/%2F",
        "/%2f%2f",
        "%2f%2f",
        "%2F/",
        "/%2f/",
        "/%5c",
        "/%5C",
        "%5c%5c",
        "/%5c/",
        "/%2f%5c",
        "/%5c%2f",
    ),
    *("/%252f", "/%255c", "/%2509/", "/%25%32%66", "/%u002f", "/%c0%af", "/%ef%bc%8f", "/%e2%81%84"),
    # Dot segments.
    *(
        "/.//",
        "/./\\",
        "/..//",
        "/../..//",
        "/../\\",
        "/.%2f/",
        "/%2e//",
        "/%2e%2e//",
        "/%2e%2f%2f",
        "/a/..//",
    ),
    *(".//", "..//", "./\\", "/./%2f", "/..%2f%2f", "/..%5c", "/....//", "/.;//", "/..;//"),
    # Letters that look like slashes, or become some under Unicode's compatibility forms.
    *("/\uff0f", "\uff0f\uff0f", "/\u2044", "/\u2215", "/\u29f8", "/\uff3c", "/\u3002/", "/\u2024/"),
    # Parameters, queries, fragments, and an at sign after them.
    *(
        "/;//",
        "/;@",
        ";//",
        "/?//",
        "/?@",
        "?//",
        "/#//",
        "#//",
        "/@",
        "@",
        "/:@",
        "/.@",
        "/*//",
        "/&//",
        "/,//",
    ),
    # Schemes in every spelling; the one slash, or none, that browsers forgive.
    *(
        "http://",
        "https://",
        "HTTP://",
        "hTTpS://",
        "http:/",
        "http:",
        "https:",
        "https:/",
        "HTTPS:",
        "http:///",
    ),
    *(
        "http:\\\\",
        "http:\\",
        "http:/\\",
        "https:\\/",
        "http:////",
        "http:/\t/",
        "ht\ttp://",
        "http\n://",
        "http:\r//",
    ),
    *(
        " http://",
        "\thttp://",
        "\x01http://",
        "http ://",
        "http%3a//",
        "http:%2f%2f",
        "%68ttp://",
        "http&colon;//",
    ),
    *(
        "//http://",
        "/http://",
        "/https:/",
        "//https:",
        "http:http://",
        "http:?",
        "http:#",
        "http:.",
        "http:@",
    ),
    *(
        "ftp://",
        "ws://",
        "file://",
        "file:///",
        "gopher://",
        "blob:http://",
        "view-source:http://",
        "x://",
        "//:",
    ),
)

#: Authorities that one reader takes for the attacker's, and another for ours.
AUTHORITIES = (
    *(
        "evil.example",
        "evil.example:80",
        "evil.example:",
        "evil.example.",
        "EVIL.EXAMPLE",
        "www.evil.example",
    ),
    *("testserver@evil.example", "testserver:80@evil.example", "user:pass@evil.example", "@evil.example"),
    *("testserver%40evil.example", "testserver%00@evil.example", "testserver\t@evil.example"),
    *(
        "evil.example\\@testserver",
        "evil.example#@testserver",
        "evil.example?@testserver",
        "evil.example;@testserver",
    ),
    *(
        "evil.example/@testserver",
        "evil.example%23@testserver",
        "evil.example&@testserver",
        "evil.example%2f@testserver",
    ),
    *(
        "testserver.evil.example",
        "testserver-evil.example",
        "eviltestserver",
        "evil.example/testserver",
        "testserver:8",
    ),
    *("evil%2eexample", "evil\u3002example", "evil\uff0eexample", "\uff45vil.example", "ev\u0131l.example"),
    *(
        "xn--evl-jma.example",
        "evil.example%00.testserver",
        "evil.example\x00.testserver",
        "evil\u00ad.example",
    ),
    *(
        "192.0.2.1",
        "3221225985",
        "0xc0000201",
        "0300.0.2.1",
        "192.0.513",
        "[2001:db8::1]",
        "[::ffff:192.0.2.1]",
        "[::]",
    ),
    *(
        "",
        ":80",
        "@",
        ":",
        ".",
        "..",
        "?",
        "#",
        "evil.example%0d%0aSet-Cookie:%20a=b",
        "evil.example\r\nSet-Cookie: a=b",
    ),
)

#: Addresses that no multiplication gives.
OTHERS = (
    *("javascript:alert(1)", "JavaScript:alert(1)", "java\tscript:alert(1)", "java\r\nscript:alert(1)"),
    *(
        "javascript://testserver/%0aalert(1)",
        " javascript:alert(1)",
        "\x01javascript:alert(1)",
        "/javascript:alert(1)",
    ),
    *(
        "javascript&colon;alert(1)",
        "javascript%3aalert(1)",
        "vbscript:msgbox(1)",
        "jav&#x09;ascript:alert(1)",
    ),
    *("data:text/html,<script>alert(1)</script>", "DATA:text/html;base64,PHNjcmlwdD4=", "/data:text/html,x"),
    *(
        "about:blank",
        "mailto:a@evil.example",
        "tel:1",
        "intent://evil.example#Intent;end",
        "x-app:open",
        "://evil.example",
    ),
    *(
        "/%0d%0aLocation:%20//evil.example",
        "/\r\nLocation: //evil.example",
        "/%0aSet-Cookie:a=b",
        "/%E5%98%8A%E5%98%8D",
    ),
    *(
        '/"><script>alert(1)</script>',
        "/'onmouseover='alert(1)",
        "/<svg/onload=alert(1)>",
        "/;url=//evil.example",
    ),
    *(
        "0;url=//evil.example",
        "/,//evil.example",
        "/a;url='//evil.example'",
        '/"//evil.example"',
        "'//evil.example'",
    ),
    *(
        "http://testserver",
        "http://testserver/",
        "https://testserver/",
        "//testserver/",
        "http:/testserver",
        "http:plain/",
    ),
    *(
        "plain/",
        "./plain/",
        "../plain/",
        "?a=1",
        "#a",
        ".",
        "..",
        "\\plain/",
        "plain\\",
        "/plain\\",
        "/a/\\evil.example",
    ),
    *(
        "/" + "a" * 2048,
        "/" + "/" * 2047,
        "/" + "%2f" * 682,
        "/ü/",
        "/\ud7ff/",
        "/\U0001f408/",
        "/\x7f",
        "/\x80",
        " /plain/",
    ),
    *(
        "/plain/ ",
        "/plain/\n",
        "/plain/\x00",
        "\ufeff/plain/",
        "/pl\tain/",
        "None",
        "null",
        "undefined",
        "true",
        "0",
        "[]",
    ),
)


def own_pages(names: tuple[str, ...] = ("login", "callback", "logout")) -> list[str]:
    """Give our own pages, which act, in the spellings that lead there."""
    found = []
    for name in names:
        found += [
            *(f"/spatio/{name}/", f"/spatio/{name}", f"/spatio/{name}/?next=/plain/", f"/spatio/{name}/#x"),
            *(
                f"/spatio/./{name}/",
                f"/spatio/x/../{name}/",
                f"/plain/../spatio/{name}/",
                f"/./spatio/{name}/",
            ),
            *(f"/../spatio/{name}/", f"/spatio/{name}/x/..", f"/spatio/{name}/.", f"/spatio/{name}/./"),
            *(
                f"/spatio/%2e/{name}/",
                f"/spatio/x/%2e%2e/{name}/",
                f"/spatio/x/%2E./{name}/",
                f"/%2e/spatio/{name}/",
            ),
            *(
                f"/%73patio/{name}/",
                f"/spatio/%{ord(name[0]):02x}{name[1:]}/",
                f"/spatio%2f{name}/",
                f"/spatio/{name}%2f",
            ),
            *(
                f"/spatio%5c{name}/",
                f"/spatio\\{name}/",
                f"/spatio/{name[:2]}%09{name[2:]}/",
                f"/spatio/{name}/%20",
            ),
            *(
                f"/spatio/{name[:2]}%0a{name[2:]}/",
                f"/spatio/%25{ord(name[0]):02x}{name[1:]}/",
                f"/spatio/x/%252e./{name}/",
            ),
            *(
                f"/spatio/{name}/%3Fa=1",
                f"/spatio/{name}%3Fa=1",
                f"/spatio/{name}/%23a",
                f"/x%5c..%5cspatio/{name}/",
            ),
            *(
                f"/spatio/{name}/?code=x&state=y",
                f"http://testserver/spatio/{name}/",
                f"//testserver/spatio/{name}/",
            ),
        ]
    return found


#: Pages that people really want to come back to.
HONEST = (
    *(
        "/",
        "/plain/",
        "/other/?a=1&b=2",
        "/other/?a=1#part",
        "/#part",
        "/?next=/plain/",
        "/a/b/c.html",
        "/a//b",
        "/a/",
    ),
    *(
        "/other/?next=https%3A%2F%2Fexample.com%2F",
        "/other/?url=https://example.com/a",
        "/other/?a=1&b=%2F%2Fx#part",
    ),
    *(
        "/%C3%BC/",
        "/%E9%9B%AA/?q=%F0%9F%90%88",
        "/search?q=a%20b+c",
        "/search?q=100%25",
        "/search?q=a%0Ab",
        "/100%",
    ),
    *(
        "/~ada/",
        "/@ada",
        "/user:ada/",
        "/a;b=c/d",
        "/a,b/(c)/'d'!*$&=+",
        "/[1]/{2}|3^4`5",
        "/a%2Fb/",
        "/a%5Cb/",
        "/%41",
    ),
    *(
        "/spatio/account/",
        "/spatio/",
        "/spatio/login-help/",
        "/spatio/loginx/",
        "/login/",
        "/en/spatio-login/",
        "/.well-known/x",
    ),
    *(
        "/a/../b",
        "/a/./b",
        "/.a",
        "/..a/b",
        "/-/",
        "/_/",
        "/*",
        "/&a",
        "/=",
        "/:80",
        "/?//",
        "/?@",
        "/#//",
        "/#/route/1",
    ),
    *("/files/?path=C%3A%5Cx", "/r/?to=%2F%2Fcdn.example%2Fa.js", "/redirect/?to=javascript%3Aalert(1)"),
    *("/other/?" + "&".join(f"filter{number}=value{number}" for number in range(60)), "/" + "a" * 1500),
)

#: Every hostile address, each once.
HOSTILE = tuple(
    dict.fromkeys(
        (*(lead + authority for lead, authority in product(LEADS, AUTHORITIES)), *OTHERS, *own_pages())
    )
)
