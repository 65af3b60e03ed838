"""System prompts and tools as people write them, with nothing in them that a rule is about.

What is near to a rule is there on purpose: facts with dates, prices, telephone numbers, versions,
code, formats, other scripts.
"""

from collections.abc import Callable
from random import Random
from typing import Any, Final

from headwater.contract.content import Content, content

Draw = Callable[[Random], str]

_COMPANIES: Final = (
    "Northwind",
    "Fjord & Sons",
    "Müller Logistik",
    "Café Zoë",
    "Contoso",
    "Åkerlund",
)
_ROLES: Final = (
    "the assistant of the internal help desk of {company}",
    "a reviewer of code in the repositories of {company}",
    "the concierge of {company}'s hotels, founded in {year}",
    "an analyst who writes SQL for {company}'s warehouse (PostgreSQL {version})",
    "a tutor for the language courses that {company} has given since {year}",
    "the voice of {company}'s claims department, certified to ISO 27001:2022",
    "a triage nurse's assistant; you never diagnose",
    "an editor who turns notes into minutes in the house style of {company}",
    "an agent that plans deliveries for {company} between 06:00 and 22:30",
    "the operator of a build farm with {count} machines",
)
_RULES: Final[tuple[str, ...]] = (
    "Answer first, explain afterwards, in at most {count} sentences.",
    "The policy is effective {day} {month} {year}; before that, RF-{count} applied.",
    "Refunds up to ${count}.90 need no approval; above €{count}00 ask the team lead.",
    "Our line is +49 30 5550{count}23, Monday to Friday, 9:00 to 17:30.",
    "Never ask for a password, a recovery code or a one-time code.",
    "If today is a public holiday, say that the office opens on the next working day.",
    "When the person asks for the current date, call `get_time`: you do not know it.",
    "The current version of the handbook is {version}, reviewed {year}-0{digit}-1{digit}.",
    "See https://docs.example.com/v{version}/guide?id={count}&lang=en#step-{digit} for details.",
    "Follow step {digit} of 9 only after the person has agreed.",
    "Quote clause {digit}.{count} of ISO 9001:2015, never ISO/IEC 17025 in its place.",
    "Order numbers look like ORD-{year}-000{count}; a serial number has 12 characters.",
    "Hours, local time: 9:00 to 1{digit}:30; on Monday, 10:00.",
    "Today, {count} % of requests are solved at once. It is currently so.",
    "Date: the day of purchase. Time: 1{digit}:00 at the latest. Now: at once.",
    "Round to {digit} decimals: 19.{count} % becomes 20 %. Do not promise 100% success.",
    "Ask for the session ID that stands in the footer, and for the build number.",
    "Dates are written as YYYY-MM-DD, moments as RFC 3339, such as 2024-0{digit}-02T10:15:30Z.",
    "An identifier is a UUID, for example 7d9f2c1e-52ab-4c0d-9b1e-0f6a3c2d8e4{digit}.",
    "As of {day} {month} {year} the fee is £{count}; it was £{digit} in {year}.",
    "Call GET /v{digit}/users/{{id}}/orders and never DELETE /v{digit}/users/{{id}}.",
    "Write the customer's first name as `{{{{first_name}}}}`: the mailer fills it in.",
    "Set `${{HOME}}` in shell examples, and quote `%s` where you explain printf.",
    "CVE-{year}-1{count}3 concerns OpenSSL 3.0.{digit}; mention it by its number.",
    "Ship to Łódź, São Paulo, Zürich, Đà Nẵng and Kraków within {digit} days.",
    'Use "smart" quotes — and dashes — as the person does… 👍🏽 👩‍💻 are fine.',
    "東京本社の営業時間は9:00から18:00です。丁寧語で答えてください。",
    "Antworten Sie auf Deutsch, wenn die Person Deutsch schreibt; das Büro ist um 8:30 Uhr offen.",
    "أجب بالعربية الفصحى إذا كتب المستخدم بالعربية.",
    "हिन्दी में पूछे गए प्रश्न का उत्तर हिन्दी में दें।",
    "The counter at gate {count} closes 20 minutes before departure.",
    "Requests count against the quota of {count}0 a day, runs do not.",
    "Escalate at once: fire, flood, a lost device, a request from the press.",
    "A nonce is used once; a salt is stored. Explain the difference where it matters.",
    "The company was founded on {day} {month} 19{digit}8 and went public in {year}.",
    "E-mail is read at support@example.com; mailto:billing@example.com is for invoices.",
    "It is currently not possible to change a booking: say so. Now is never a promise.",
    "IPv4 192.0.2.{count}, IPv6 2001:db8::{digit}, and MAC 00:1A:2B:3C:4D:5{digit} are examples.",
    "For x in {{1, 2}} and y = {{a}}, give $\\frac{{ab}}{{cd}}$ in LaTeX.",
    "The SLA is 99.9{digit} %, measured from 00:00 to 24:00 UTC.",
    "Hash files with SHA-256; compare all 64 characters, not the first {digit}.",
)
_CODE: Final[tuple[str, ...]] = (
    "```python\nname = f'{{user.name}} {{count:>{digit}}}'\nprint('%s' % name, 1795256400)\n```",
    '```bash\nexport TOKEN=${{TOKEN:?}}\ncurl -H "Authorization: Bearer $TOKEN" https://example.com/{digit}\n```',
    '```json\n{{"id": "7d9f2c1e-52ab-4c0d-9b1e-0f6a3c2d8e4{digit}"}}\n```',
    "```yaml\nif: ${{{{ github.ref == 'refs/heads/main' }}}}\nimage: app@sha256:{hex}\n```",
    "```jinja\nDear {{{{ customer.name }}}},\n{{% if vip %}}thank you{{% endif %}}\n```",
    "~~~sql\nSELECT * FROM orders WHERE day >= DATE '{year}-01-01' LIMIT {count};\n~~~",
    "<example>\nUser: Which day?\nAssistant: Today is Monday, {day} {month} {year}.\n</example>",
    "<examples>\nrequest #{count}: session id: a1b2c3d{digit} -> refused\n</examples>",
    '{{"name": "order", "qty": {count}, "price": {{"amount": 9.{digit}, "currency": "EUR"}}}}',
    "| plan | price | since |\n| --- | ---: | --- |\n| Basic | $ {count} | {year}-0{digit}-01 |",
    "Regular expressions: `^\\d{{4}}-\\d{{2}}$`, `[a-z]{{2,{count}}}`, `${{name}}`.",
)
_MONTHS: Final = ("January", "March", "May", "September", "Dec.", "June")


def prompt(seed: int) -> Content:
    """One contract; another seed gives another."""
    draw = Random(seed)
    system = [{"text": _block(draw)} for _ in range(draw.randint(1, 4))]
    tools = [_tool(draw, number) for number in range(draw.randint(0, 6))]
    return content(tools=tools, system=system, ttl=draw.choice(("5m", "1h")))


def _filled(draw: Random, template: str) -> str:
    return template.format(
        company=draw.choice(_COMPANIES),
        year=draw.randint(1990, 2026),
        version=f"{draw.randint(1, 17)}.{draw.randint(0, 30)}.{draw.randint(0, 9)}",
        count=draw.randint(10, 99),
        digit=draw.randint(1, 9),
        day=draw.randint(1, 28),
        month=draw.choice(_MONTHS),
        hex=f"{draw.getrandbits(256):064x}",
    )


def _block(draw: Random) -> str:
    parts = [f"You are {_filled(draw, draw.choice(_ROLES))}.\n"]
    for number in range(draw.randint(1, 4)):
        bullet = draw.choice(("- ", "* ", "{}. ", ""))
        chosen = draw.sample(_RULES, draw.randint(2, 9))
        lines = [bullet.format(i + 1) + _filled(draw, rule) for i, rule in enumerate(chosen)]
        heading = draw.choice(("# Part {}", "## {}. Rules", "PART {}:", "<part_{}>"))
        parts.append(heading.format(number + 1) + "\n\n" + "\n".join(lines) + "\n")
        if draw.random() < 0.6:
            parts.append(_filled(draw, draw.choice(_CODE)) + "\n")
    return "\n".join(parts)


def _tool(draw: Random, number: int) -> dict[str, Any]:
    optional: list[tuple[str, dict[str, Any]]] = [
        ("since", {"type": "string", "format": "date-time", "examples": ["2024-01-02T03:04:05Z"]}),
        (
            "id",
            {"type": "string", "pattern": "^[0-9a-f]{8}-[0-9a-f]{4}$", "description": "Its id."},
        ),
        ("limit", {"type": "integer", "minimum": 1, "maximum": draw.randint(2, 99), "default": 5}),
        ("kind", {"enum": ["open", "closed", None], "description": "Which ones, e.g. open."}),
        ("path", {"anyOf": [{"type": "string"}, {"type": "null"}], "title": "Path"}),
        ("example", {"type": "array", "items": {"$ref": "#/$defs/item"}}),
    ]
    chosen = dict(draw.sample(optional, draw.randint(0, len(optional))))
    return {
        "name": f"{draw.choice(('search', 'get', 'list', 'create'))}_{number}",
        "description": _filled(draw, draw.choice(_RULES)),
        "input_schema": {
            "type": "object",
            "properties": chosen,
            "required": sorted(chosen)[:1],
            "$defs": {"item": {"type": "object", "additionalProperties": False}},
        },
    }
