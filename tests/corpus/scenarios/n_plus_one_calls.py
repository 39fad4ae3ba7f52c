from __future__ import annotations

from ..cases import Label, Part, negative, positive, unclear
from ..program import Program
from ..world import World

KIND = "n_plus_one_calls"
BY_ID = "SELECT * FROM orders WHERE id = {}"
ITEM = "https://api.shop.io/v1/items/{}"


@positive(KIND)
def query_for_each_row(world: World) -> Part:
    """A tool reads a list and then each row of it with a query of its own."""
    times = world.times(world.count(7, 60), 0.015, 0.2)
    rows = [world.count(1000, 9999) * 100 + place for place in range(len(times))]
    tool, key = world.tool_name(), world.key()

    def body(program: Program) -> None:
        with program.inside("tool", tool, args={"day": world.agent}, result={"rows": len(rows)}):
            program.db("SELECT id FROM orders WHERE day = {}", times[0], "2026-05-01")
            if program.repaired(key):
                program.db(BY_ID, max(times), rows[0])
            else:
                for row, seconds in zip(rows, times, strict=True):
                    program.db(BY_ID, seconds, row)

    return Part(body, (Label(KIND, (world.sql_name(BY_ID),), key),))


@positive(KIND)
def request_for_each_item(world: World) -> Part:
    """A tool asks a web service for one item after another; only the URLs tell them apart."""
    times = world.times(world.count(7, 25), 0.06, 0.28)
    items = [world.count(10, 99) * 1000 + place for place in range(len(times))]
    tool, key = world.tool_name(), world.key()

    def body(program: Program) -> None:
        with program.inside("tool", tool, args={"list": world.agent}, result={"items": len(items)}):
            if program.repaired(key):
                program.http(ITEM, max(times), items[0])
            else:
                for item, seconds in zip(items, times, strict=True):
                    program.http(ITEM, seconds, item)

    return Part(body, (Label(KIND, (world.url_name(ITEM),), key),))


@positive(KIND, needs="arguments")
def tool_for_each_city(world: World) -> Part:
    """The agent's code calls a tool once for each city."""
    times = world.times(world.count(7, 20), 0.1, 1.2)
    cities = [world.text(1) for _ in times]
    tool, key = world.tool_name(), world.key()

    def body(program: Program) -> None:
        with program.inside("step", "collect"):
            if program.repaired(key):
                program.tool(tool, max(times), {"cities": cities}, {"warm": world.agent})
            else:
                for city, seconds in zip(cities, times, strict=True):
                    program.tool(tool, seconds, {"city": city}, {"warm": len(city) * 7919})

    return Part(body, (Label(KIND, (tool,), key),))


@positive(KIND)
def two_queries_for_each_user(world: World) -> Part:
    """A loop with two queries in it: each of them is a loop of its own to mend."""
    profile, grants = "SELECT * FROM users WHERE id = {}", "SELECT role FROM grants WHERE user_id = {}"
    count = world.count(8, 25)
    first, second = world.times(count, 0.03, 0.15), world.times(count, 0.03, 0.15)
    users = [world.count(100, 999) * 100 + place for place in range(count)]
    tool, keys = world.tool_name(), (world.key(), world.key())

    def body(program: Program) -> None:
        with program.inside("tool", tool, args={"team": world.agent}, result={"users": count}):
            for place, user in enumerate(users):
                if not program.repaired(keys[0]):
                    program.db(profile, first[place], user)
                elif place == 0:
                    program.db(profile, max(first), user)
                if not program.repaired(keys[1]):
                    program.db(grants, second[place], user)
                elif place == 0:
                    program.db(grants, max(second), user)

    labels = (Label(KIND, (world.sql_name(profile),), keys[0]), Label(KIND, (world.sql_name(grants),), keys[1]))
    return Part(body, labels)


@positive(KIND)
def insert_one_by_one(world: World) -> Part:
    """A tool writes row by row what one statement could write."""
    insert = "INSERT INTO seen_events (id) VALUES ({})"
    times = world.times(world.count(10, 40), 0.02, 0.1)
    rows = [world.count(1000, 9999) * 100 + place for place in range(len(times))]
    key = world.key()

    def body(program: Program) -> None:
        with program.inside("tool", "save_events", args={"count": len(rows)}, result={"saved": len(rows)}):
            if program.repaired(key):
                program.db(insert, max(times), rows[0])
            else:
                for row, seconds in zip(rows, times, strict=True):
                    program.db(insert, seconds, row)

    return Part(body, (Label(KIND, (world.sql_name(insert),), key),))


@positive(KIND, needs="texts")
def embedding_for_each_chunk(world: World) -> Part:
    """Chunks of a document are embedded one request each."""
    times = world.times(world.count(8, 30), 0.08, 0.4)
    texts = [world.text(12) for _ in times]
    key = world.key()

    def body(program: Program) -> None:
        with program.inside("step", "index"):
            if program.repaired(key):
                program.call("embedding", "text-embedding-3", max(times), args=" ".join(texts), result={"n": 1})
            else:
                for text, seconds in zip(texts, times, strict=True):
                    program.call("embedding", "text-embedding-3", seconds, args=text, result={"vector": len(text)})

    return Part(body, (Label(KIND, ("text-embedding-3",), key),))


@positive(KIND)
def key_by_key_from_redis(world: World) -> Part:
    """Keys of a remote store are read with one round trip each."""
    times = world.times(world.count(20, 80), 0.015, 0.05)
    users = [world.count(100, 999) * 100 + place for place in range(len(times))]
    tool, key = world.tool_name(), world.key()

    def body(program: Program) -> None:
        with program.inside("tool", tool, args={"segment": world.agent}, result={"users": len(users)}):
            if program.repaired(key):
                program.db("GET user:{}", max(times), users[0])
            else:
                for user, seconds in zip(users, times, strict=True):
                    program.db("GET user:{}", seconds, user)

    return Part(body, (Label(KIND, ("GET",), key),))


@positive(KIND)
def loop_that_runs_two_at_a_time(world: World) -> Part:
    """Requests one item each, fanned out two at a time: a batch would still be one."""
    times = world.times(2 * world.count(6, 12), 0.1, 0.28)
    items = [world.count(10, 99) * 1000 + place for place in range(len(times))]
    tool, key = world.tool_name(), world.key()

    def body(program: Program) -> None:
        with program.inside("tool", tool, args={"list": world.agent}, result={"items": len(items)}):
            if program.repaired(key):
                program.http(ITEM, max(times), items[0])
                return
            for place in range(0, len(items), 2):
                program.gather(
                    lambda at=place: program.http(ITEM, times[at], items[at]),  # type: ignore[misc]
                    lambda at=place + 1: program.http(ITEM, times[at], items[at]),  # type: ignore[misc]
                )

    return Part(body, (Label(KIND, (world.url_name(ITEM),), key),))


@negative(KIND)
def only_a_few(world: World) -> Part:
    """Four queries are not a loop to worry about."""
    times = world.times(4, 0.05, 0.3)
    tool = world.tool_name()

    def body(program: Program) -> None:
        with program.inside("tool", tool, args={"q": world.agent}, result={"n": 4}):
            for place, seconds in enumerate(times):
                program.db(BY_ID, seconds, 4711 + place)

    return Part(body)


@negative(KIND)
def pages_of_a_list(world: World) -> Part:
    """Pages of one list, read one after another because each names the next."""
    times = world.times(world.count(6, 15), 0.08, 0.28)
    cursors = [world.identifier("cur") for _ in times]
    tool = world.tool_name()

    def body(program: Program) -> None:
        with program.inside("tool", tool, args={"list": world.agent}, result={"pages": len(times)}):
            for cursor, seconds in zip(cursors, times, strict=True):
                program.http("https://api.shop.io/v1/orders?limit=100&cursor={}", seconds, cursor)

    return Part(body)


@negative(KIND)
def pages_by_offset(world: World) -> Part:
    """A long table, read in pages of a thousand rows."""
    times = world.times(world.count(6, 15), 0.08, 0.3)
    tool = world.tool_name()

    def body(program: Program) -> None:
        with program.inside("tool", tool, args={"table": world.agent}, result={"pages": len(times)}):
            for place, seconds in enumerate(times):
                program.db("SELECT * FROM log ORDER BY id LIMIT 1000 OFFSET {}", seconds, place * 1000)

    return Part(body)


@negative(KIND)
def all_at_once(world: World) -> Part:
    """One request for each item, all at the same time: nothing is left to save."""
    times = world.times(world.count(6, 9), 0.1, 0.35)
    tool = world.tool_name()

    def body(program: Program) -> None:
        with program.inside("tool", tool, args={"list": world.agent}, result={"items": len(times)}):
            requests = [
                lambda at=place: program.http(ITEM, times[at], 500 + at)  # type: ignore[misc]
                for place in range(len(times))
            ]
            program.gather(*requests)

    return Part(body)


@negative(KIND)
def model_decides_each(world: World) -> Part:
    """The model asks for one city, looks at the answer, and asks for the next."""
    times = world.times(world.count(6, 10), 0.2, 1.2)
    tool = world.tool_name()
    cities = [world.text(1) for _ in times]

    def body(program: Program) -> None:
        for city, seconds in zip(cities, times, strict=True):
            program.turn(asks=(tool,))
            program.tool(tool, seconds, {"city": city}, {"warm": len(city) * 7919}, asked=True)

    return Part(body, turns=True)


@negative(KIND)
def quick_queries(world: World) -> Part:
    """Ten queries of a millisecond are not worth a line."""
    times = world.times(10, 0.0005, 0.003)
    tool = world.tool_name()

    def body(program: Program) -> None:
        with program.inside("tool", tool, args={"q": world.agent}, result={"n": 10}):
            for place, seconds in enumerate(times):
                program.db(BY_ID, seconds, 4711 + place)

    return Part(body)


@negative(KIND, needs="arguments")
def walk_along_a_list(world: World) -> Part:
    """Each call asks for what the one before named."""
    times = world.times(world.count(6, 12), 0.2, 1.0)
    nodes = [world.identifier("node") for _ in range(len(times) + 1)]
    tool = world.tool_name()

    def body(program: Program) -> None:
        before: tuple[object, ...] = ()
        with program.inside("step", "walk"):
            for place, seconds in enumerate(times):
                result = {"next": nodes[place + 1], "size": place * 31}
                call = program.tool(tool, seconds, {"node": nodes[place]}, result, uses=before)
                before = (call,)

    return Part(body)


@negative(KIND)
def hidden_values(world: World) -> Part:
    """Statements with placeholders and no values: they may be polls of one row, and nobody can tell."""
    times = world.times(world.count(7, 20), 0.03, 0.2)
    tool = world.tool_name()

    def body(program: Program) -> None:
        with program.inside("tool", tool, args={"job": world.agent}, result={"state": "done"}):
            for seconds in times:
                program.db("SELECT state FROM jobs WHERE id = {}", seconds, 7, hidden=True)

    return Part(body)


@negative(KIND)
def two_agents_three_each(world: World) -> Part:
    """Two agents need the same kind of row, three each."""
    times = world.times(6, 0.1, 0.6)
    names = (world.agent_name(), world.agent_name())
    tool = world.tool_name()

    def body(program: Program) -> None:
        with program.inside("workflow", "team"):
            for number, name in enumerate(names):
                with program.inside("agent", name):
                    program.turn(asks=(tool,))
                    with program.inside("tool", tool, args={"q": name}, result={"n": 3}):
                        for place in range(3):
                            program.db(BY_ID, times[3 * number + place], 900 + 3 * number + place)
                    program.turn()

    return Part(body, whole=True)


@negative(KIND)
def one_query_a_tool(world: World) -> Part:
    """Eight tools that the model asks for turn by turn, with one query in each."""
    times = world.times(8, 0.05, 0.5)
    tools = [world.tool_name() for _ in times]

    def body(program: Program) -> None:
        for place, seconds in enumerate(times):
            program.turn(asks=(tools[place],))
            with program.inside("tool", tools[place], args={"id": place}, result={"row": place}, asked=True):
                program.db(BY_ID, seconds, 300 + place)

    return Part(body, turns=True)


@unclear(KIND)
def five_calls(world: World) -> Part:
    """Five calls are just at the threshold."""
    times = world.times(5, 0.1, 0.28)
    tool = world.tool_name()

    def body(program: Program) -> None:
        with program.inside("tool", tool, args={"q": world.agent}, result={"n": 5}):
            for place, seconds in enumerate(times):
                program.http(ITEM, seconds, 600 + place)

    return Part(body)


@positive(KIND)
def loop_with_work_of_its_own(world: World) -> Part:
    """Between its queries the loop computes a little."""
    times, own = world.times(world.count(8, 30), 0.02, 0.15), world.log_uniform(0.001, 0.02)
    tool, key = world.tool_name(), world.key()

    def body(program: Program) -> None:
        with program.inside("tool", tool, args={"day": world.agent}, result={"rows": len(times)}):
            if program.repaired(key):
                program.db(BY_ID, max(times), 4711)
            for place, seconds in enumerate(times):
                if not program.repaired(key):
                    program.db(BY_ID, seconds, 4711 + place)
                program.wait(own)

    return Part(body, (Label(KIND, (world.sql_name(BY_ID),), key),))


@positive(KIND, needs="arguments")
def tools_with_a_request_each(world: World) -> Part:
    """A loop of tools, each with one request inside: mended in one place, by whichever name."""
    times = world.times(world.count(7, 15), 0.1, 0.3)
    tool, key = world.tool_name(), world.key()

    def one(program: Program, place: int, seconds: float) -> None:
        with program.inside("tool", tool, args={"item": f"i-{place}"}, result={"price": place * 7919}):
            program.http(ITEM, seconds, 70_000 + place)

    def body(program: Program) -> None:
        with program.inside("step", "collect"):
            for place, seconds in [(0, max(times))] if program.repaired(key) else enumerate(times):
                one(program, place, seconds)

    return Part(body, (Label(KIND, (tool, world.url_name(ITEM)), key),))


@negative(KIND)
def batches_already(world: World) -> Part:
    """Six statements with a hundred ids each: nobody asks for one item at a time."""
    batch = "SELECT * FROM orders WHERE id IN ({})"
    times, tool = world.times(6, 0.1, 0.5), world.tool_name()

    def body(program: Program) -> None:
        with program.inside("tool", tool, args={"day": world.agent}, result={"rows": 600}):
            for place, seconds in enumerate(times):
                ids = ", ".join(str(1000 * place + number) for number in range(100))
                program.db(batch.format(ids), seconds)

    return Part(body)


@unclear(KIND, needs="content")
def answer_for_each_chunk(world: World) -> Part:
    """Code asks the model about eight chunks of a document, one after another."""
    times, texts = world.times(8, 0.6, 2.0), [world.text(12) for _ in range(8)]

    def body(program: Program) -> None:
        with program.inside("tool", "summarize_file", args={"path": "a.md"}, result={"text": "short"}):
            for text, seconds in zip(texts, times, strict=True):
                told = (90, round(60 * seconds), None)
                program.call("llm", "small", seconds, messages=(("user", text),), answer=text[:9], tokens=told)

    return Part(body)


@unclear(KIND, needs="content")
def one_turn_asks_for_eight(world: World) -> Part:
    """One model turn asks for the same tool eight times, and they run one by one: a batch, or in parallel."""
    times, tool = world.times(8, 0.3, 1.2), world.tool_name()

    def body(program: Program) -> None:
        for place, seconds in enumerate(times):
            program.tool(tool, seconds, {"city": f"c-{place}"}, {"warm": place * 7919}, asked=True)

    return Part(body, asks=(tool,) * 8)
