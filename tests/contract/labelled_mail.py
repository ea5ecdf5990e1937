"""Mail between coding agents, and what somebody looking for it would ask: to measure how well a search finds it.

Grades: 2 is what was meant, 1 helps. Half of the questions use other words than the mail does, as people do who do not
remember how something was put; the others name an identifier or a word of it.
"""

from __future__ import annotations

MAIL: dict[str, tuple[str, str]] = {
    "expiry": (
        "Session tokens expire too early",
        "Users are logged out after 5 minutes. `refresh_token()` compares seconds with milliseconds.",
    ),
    "expiry-fix": (
        "Re: Session tokens expire too early",
        "Fixed in auth/session.py: both sides are milliseconds now. Please re-run the sign-in tests.",
    ),
    "oauth": (
        "OAuth callback returns 500",
        "The redirect handler does not URL-decode `state`, so the signature check fails for some browsers.",
    ),
    "mfa": (
        "Two-factor codes",
        "I'd like to add TOTP as a second step. Which table holds the secret? It must be encrypted at rest.",
    ),
    "hashing": (
        "bcrypt cost",
        "Hashing takes 400 ms at cost 13. I lower it to 12; that is still above the recommendation.",
    ),
    "leak": (
        "Memory grows without end in the worker",
        "RSS climbs by 30 MB an hour. tracemalloc points at the response cache, which never evicts anything.",
    ),
    "leak-fix": (
        "Re: Memory grows without end in the worker",
        "The cache is an LRU of 10,000 entries now. RSS stays flat over night.",
    ),
    "oom": (
        "Pod killed",
        "Kubernetes restarted api-7 with exit code 137. The limit is 512Mi, and the import job alone needs 600.",
    ),
    "deadlock": (
        "Deadlock between transfer and refund",
        "Both lock account rows, in a different order. Proposal: always lock by ascending id.",
    ),
    "slow-query": (
        "Orders page takes 8 seconds",
        "The planner does a sequential scan because there is no index on orders.customer_id.",
    ),
    "index": (
        "Migration 0042: index on orders.customer_id",
        "Built CONCURRENTLY, so it does not block writes. Takes about 3 minutes in production.",
    ),
    "n-plus-one": (
        "Hundreds of SELECTs a request",
        "The serializer loads each author separately. With prefetching, 212 statements become 3.",
    ),
    "pool": (
        "Connection pool exhausted at noon",
        "QueuePool limit of size 5 overflow 10 reached. A handler keeps its connection while it "
        "calls the payment provider.",
    ),
    "migration-lock": (
        "ALTER TABLE blocked everything",
        "Adding the column with a default rewrote the table. Next time: add it nullable, backfill, "
        "then set the default.",
    ),
    "rollback": (
        "We went back to 2.14",
        "Error rate rose to 4 % after the deploy, so I reverted. The new image is tagged 2.15-broken.",
    ),
    "release": (
        "Release 2.16 on Tuesday",
        "Freeze is Monday at noon. Changelog and version bump are mine; who signs the artifacts?",
    ),
    "canary": ("Gradual rollout", "5 % of the traffic first, then 25, then all. Stop when p99 doubles."),
    "flags": (
        "Feature switch for the new checkout",
        "`checkout_v2` is off by default. Turn it on per tenant in the admin console.",
    ),
    "ci-slow": (
        "The pipeline takes 40 minutes",
        "Half of it is installing packages. With a cache keyed by the lock file it is 18.",
    ),
    "ci-flaky": (
        "test_upload fails now and then",
        "It passes on a retry. It waits for a fixed 100 ms instead of for the event; on a busy "
        "runner that is too short.",
    ),
    "ci-runner": ("Runners out of disk", "Old Docker layers fill /var. I prune images older than 3 days every night."),
    "coverage": (
        "Untested code in billing",
        "invoice.py has 31 % coverage, and nobody tests rounding. I'll write property-based tests.",
    ),
    "rounding": (
        "Totals off by a cent",
        "Line items are rounded before they are added up. Sum first, round once, and use Decimal.",
    ),
    "currency": ("Prices in yen", "JPY has no minor unit, but we divide every amount by 100."),
    "webhook": (
        "Payment notifications arrive twice",
        "The provider retries after 10 s. We must remember the event id and ignore repeats.",
    ),
    "refund": (
        "Refunds stay pending",
        "The job that settles them is not scheduled in the EU cluster: its cron entry is missing there.",
    ),
    "tax": (
        "VAT for digital goods",
        "The rate depends on the buyer's country since 2015, not on ours. The table is in tax_rates.csv.",
    ),
    "invoice-pdf": ("Broken umlauts on invoices", "The PDF font has no glyphs beyond Latin-1. Embed DejaVu Sans."),
    "timezone": (
        "Reports start an hour late",
        "The cron runs in UTC but was written for Berlin; since daylight saving ended it is off by one.",
    ),
    "dst": (
        "Appointments doubled in October",
        "Local times that occur twice are ambiguous. Store UTC and the zone's name.",
    ),
    "unicode": (
        "Names with emoji are cut",
        "The column is utf8, not utf8mb4, so MySQL truncates at the first 4-byte character.",
    ),
    "csv-import": (
        "Import stops at row 65536",
        "The parser reads the old spreadsheet format. We should accept .xlsx and stream it.",
    ),
    "upload": (
        "Large files are refused",
        "nginx answers 413: client_max_body_size is 1m. I raise it to 50m for /files only.",
    ),
    "thumbnails": (
        "Pictures are shown sideways",
        "We drop the EXIF orientation when we resize. Rotate before stripping the metadata.",
    ),
    "storage": (
        "Bucket is public",
        "The S3 policy allows anonymous reads. I closed it; please rotate the keys that were in backups.",
    ),
    "xss": (
        "Script injection in comments",
        "Markdown is rendered without sanitising, so <img onerror> runs. I run the output through an allow-list.",
    ),
    "sqli": (
        "Unescaped input in search",
        "The filter is pasted into the statement. Use bound parameters; a test with a quote character is attached.",
    ),
    "secrets": (
        "API key in the repository",
        "config/dev.yml had the live Stripe key. It is revoked; I rewrote it to read the environment.",
    ),
    "dependency": (
        "CVE-2026-1234 in the image library",
        "A crafted PNG can execute code. Bump pillow to 12.3 in all three services.",
    ),
    "rate-limit": (
        "One client floods us",
        "800 requests a second from one token. I add a sliding window of 100 a minute per key; beyond that 429.",
    ),
    "cors": ("Browser blocks our own front end", "The preflight lacks Access-Control-Allow-Headers: authorization."),
    "tls": (
        "Certificate expires on Friday",
        "Renewal fails because port 80 is closed. I switched to the DNS challenge.",
    ),
    "dns": (
        "Half of the requests time out",
        "The old address is still in one resolver's cache: TTL was a day. Lower it before the next move.",
    ),
    "outage": (
        "Post-mortem of the Thursday outage",
        "Root cause: the config service was unreachable and clients had no fallback. Actions: cache "
        "the last good config, alert on age.",
    ),
    "alert": (
        "Too many pages at night",
        "The disk alert fires at 70 % and resolves by itself. I suggest 85 %, and only when it grows.",
    ),
    "logs": (
        "Personal data in the logs",
        "Request bodies are logged at info, with e-mail addresses. I mask them and shorten retention to 14 days.",
    ),
    "tracing": ("Where does the time go", "I added OpenTelemetry spans around the template engine and the cache."),
    "dashboard": ("Graphs for the queue", "Grafana shows depth and age of the oldest job now. Link in the wiki."),
    "queue": (
        "Jobs are done twice",
        "A worker that takes longer than the visibility timeout loses its job to another. Extend it "
        "while working, or make the handler idempotent.",
    ),
    "retry": (
        "Retry storm",
        "All clients retry at the same instant. Exponential back-off with jitter, and a circuit breaker.",
    ),
    "kafka": (
        "Consumer lag",
        "Partition 3 is 2 million messages behind: its key is the tenant, and one tenant is huge.",
    ),
    "redis": ("Cache stampede at midnight", "All entries expire together. Spread the TTL by 10 %."),
    "search": ("Product search misses plurals", "'shoes' does not find 'shoe'. Add a stemmer to the analyser."),
    "i18n": (
        "Missing translations",
        "17 strings are hard-coded English in the settings page. I moved them to messages.po.",
    ),
    "a11y": ("Buttons without labels", "Screen readers say only 'button'. I added aria-label to icon buttons."),
    "dark-mode": ("Night theme", "Colours come from CSS variables now; the toggle is stored per user."),
    "mobile": ("Menu unusable on phones", "The dropdown is wider than the viewport. It becomes a drawer below 600 px."),
    "api-docs": (
        "The reference is out of date",
        "openapi.json still lists /v1/customers. Generate it from the route table in CI.",
    ),
    "versioning": (
        "Breaking change in the orders endpoint",
        "`total` becomes a string. Old clients need /v1 until March; I keep both.",
    ),
    "pagination": (
        "Lists skip rows",
        "OFFSET paging misses items when something is inserted meanwhile. I use a keyset cursor.",
    ),
    "types": ("Strict type checking", "mypy --strict passes for core/. 214 errors are left in legacy/."),
    "refactor": (
        "Splitting the god class",
        "OrderService has 3,200 lines. I extract pricing and shipping; no change of behaviour.",
    ),
    "lint": (
        "Formatter",
        "ruff replaces black and isort. One commit that touches everything, listed in .git-blame-ignore-revs.",
    ),
    "windows": ("Paths on Windows", "os.path.join gives backslashes in archive entries. Use PurePosixPath."),
    "race": (
        "Two agents edit config.py",
        "I have a reservation on src/config.py until 15:00; please wait or take settings.py.",
    ),
    "handover": (
        "Handing over the importer",
        "I stop here: parsing is done, validation is half done, see TODO in importer/validate.py.",
    ),
    "lunch": ("Retrospective moved", "Wednesday 14:00 instead of Tuesday. Bring one thing that went well."),
}

QUERIES: dict[str, dict[str, int]] = {
    # in other words
    "people get signed out too soon": {"expiry": 2, "expiry-fix": 2},
    "cannot authenticate with the identity provider": {"oauth": 2, "mfa": 1},
    "RAM usage keeps increasing": {"leak": 2, "leak-fix": 2, "oom": 1},
    "container ran out of memory": {"oom": 2, "leak": 1},
    "undo a bad deployment": {"rollback": 2, "canary": 1},
    "database performance problem": {"slow-query": 2, "n-plus-one": 2, "index": 1, "pool": 1},
    "flaky tests": {"ci-flaky": 2},
    "speed up continuous integration": {"ci-slow": 2, "ci-runner": 1},
    "money calculation wrong": {"rounding": 2, "currency": 2, "coverage": 1},
    "duplicate delivery of events": {"webhook": 2, "queue": 2},
    "daylight saving problems": {"timezone": 2, "dst": 2},
    "special characters are damaged": {"unicode": 2, "invoice-pdf": 2},
    "leaked credentials": {"secrets": 2, "storage": 2},
    "security vulnerability in a third-party package": {"dependency": 2},
    "cross-site scripting": {"xss": 2, "sqli": 1},
    "throttle abusive users": {"rate-limit": 2},
    "why was the site down": {"outage": 2, "dns": 1, "rollback": 1},
    "privacy of user information": {"logs": 2, "storage": 1},
    "photos rotated wrongly": {"thumbnails": 2},
    "accessibility for blind users": {"a11y": 2},
    "small screens layout": {"mobile": 2},
    "on-call noise": {"alert": 2},
    "backwards compatibility of the API": {"versioning": 2, "api-docs": 1},
    "thundering herd": {"retry": 2, "redis": 2},
    "who is working on the import code now": {"handover": 2, "csv-import": 1},
    # in its own words
    "refresh_token": {"expiry": 2},
    "CVE-2026-1234": {"dependency": 2},
    "orders.customer_id": {"index": 2, "slow-query": 2},
    "src/config.py": {"race": 2},
    "deadlock": {"deadlock": 2},
    "client_max_body_size": {"upload": 2},
    "mypy strict": {"types": 2},
    "consumer lag": {"kafka": 2},
    "VAT": {"tax": 2},
    "certificate expires": {"tls": 2},
    "release freeze": {"release": 2},
}
