from __future__ import annotations

from ..cases import Label, Part, negative, positive, unclear
from ..program import Program
from ..world import World

KIND = "duplicate_calls"
BY_USER = "SELECT * FROM carts WHERE user_id = {}"
PRICE = "https://prices.shop.io/v1/price/{}"


@positive(KIND, needs="arguments")
def same_question_in_code(world: World) -> Part:
    """The program asks a tool the same three to six times within one step."""
    times = world.times(world.count(3, 6), 0.3, 2.5)
    question, tool, key = {"q": world.text()}, world.tool_name(), world.key()
    result = {"answer": world.identifier()}

    def body(program: Program) -> None:
        with program.inside("tool", "compose_report", args={"n": len(times)}, result={"text": world.agent}):
            for place, seconds in enumerate(times):
                if place == 0 or not program.repaired(key):
                    program.tool(tool, seconds, question, result)

    return Part(body, (Label(KIND, (tool,), key),))


@positive(KIND, needs="arguments")
def asked_twice(world: World) -> Part:
    """Two equal calls: worth a remark."""
    times = world.times(2, 0.8, 3.0)
    question, tool, other, key = {"q": world.text()}, world.tool_name(), world.tool_name(), world.key()
    result = {"answer": world.identifier()}

    def body(program: Program) -> None:
        with program.inside("tool", "compose_report", args={"n": 2}, result={"text": world.agent}):
            first = program.tool(tool, times[0], question, result)
            program.tool(other, 0.1, {"about": result["answer"]}, {"length": 3}, uses=(first,))
            if not program.repaired(key):
                program.tool(tool, times[1], question, result)

    return Part(body, (Label(KIND, (tool,), key, severity="info"),))


@positive(KIND)
def same_row_for_each_tool(world: World) -> Part:
    """Each tool of the run reads the same user's row once more."""
    times = world.times(world.count(3, 6), 0.15, 0.6)
    tools = [world.tool_name() for _ in times]
    user, key = world.count(1000, 9999), world.key()

    def body(program: Program) -> None:
        for place, tool in enumerate(tools):
            program.turn(asks=(tool,))
            with program.inside("tool", tool, args={"what": place}, result={"part": tool}, asked=True):
                if place == 0 or not program.repaired(key):
                    program.db(BY_USER, times[place], user)
                program.wait(0.01)

    return Part(body, (Label(KIND, (world.sql_name(BY_USER),), key),), turns=True)


@positive(KIND)
def same_price_again(world: World) -> Part:
    """A tool fetches the same address for each line of an order."""
    times = world.times(world.count(3, 8), 0.1, 0.3)
    item, tool, key = world.count(10_000, 99_999), world.tool_name(), world.key()

    def body(program: Program) -> None:
        with program.inside("tool", tool, args={"order": world.agent}, result={"total": 12.5}):
            for place, seconds in enumerate(times):
                if place == 0 or not program.repaired(key):
                    program.http(PRICE, seconds, item, size=340)

    return Part(body, (Label(KIND, (world.url_name(PRICE),), key),))


@positive(KIND, needs="content")
def same_prompt_again(world: World) -> Part:
    """A judge is asked the very same question four times and says the same."""
    times = world.times(world.count(3, 4), 0.8, 3.0)
    messages = (("system", "You judge."), ("user", world.text(8)))
    key = world.key()

    def body(program: Program) -> None:
        with program.inside("tool", "judge_answer", args={"n": 1}, result={"grade": "good"}):
            for place, seconds in enumerate(times):
                if place == 0 or not program.repaired(key):
                    told = (120, round(60 * times[0]), None)
                    program.call("llm", "judge-1", seconds, messages=messages, answer="good enough", tokens=told)

    return Part(body, (Label(KIND, ("judge-1",), key),))


@positive(KIND, needs="arguments")
def between_other_work(world: World) -> Part:
    """The model comes back to the same question again and again, but never in a circle."""
    times = world.times(world.count(3, 4), 0.8, 3.0)
    question, tool, key = {"q": world.text()}, world.tool_name(), world.key()
    others = [world.tool_name() for _ in range(8)]
    result = {"answer": world.identifier()}

    def body(program: Program) -> None:
        spare = iter(others)
        for place, seconds in enumerate(times):
            if place == 0 or not program.repaired(key):
                program.tool(tool, seconds, question, result, asked=True)
            for _ in range(1 + place % 2):
                program.turn()
                name = next(spare)
                program.tool(name, 0.1, {"for": name[::-1]}, {"got": name}, asked=True)

    return Part(body, (Label(KIND, (tool,), key),), turns=True)


@positive(KIND, needs="texts")
def same_embedding_again(world: World) -> Part:
    """One text is embedded once for each index that is searched with it."""
    times = world.times(world.count(3, 5), 0.2, 0.8)
    text, key = world.text(10), world.key()

    def body(program: Program) -> None:
        with program.inside("tool", world.agent + "_search", args={"q": text}, result={"hits": 3}):
            for place, seconds in enumerate(times):
                if place == 0 or not program.repaired(key):
                    program.call("embedding", "text-embedding-ada", seconds, args=text, result={"vector": 1536})
                program.db("SELECT id FROM docs WHERE shard = {}", 0.004, place)

    return Part(body, (Label(KIND, ("text-embedding-ada",), key),))


@negative(KIND, needs="arguments")
def polling_a_job(world: World) -> Part:
    """The same question until the answer changes."""
    times = world.times(world.count(4, 9), 0.4, 2.0)
    tool, job = world.tool_name(), {"job": world.identifier("job")}

    def body(program: Program) -> None:
        with program.inside("step", "await_job"):
            for place, seconds in enumerate(times):
                program.tool(tool, seconds, job, {"state": "running", "percent": 7 + 11 * place})

    return Part(body)


@negative(KIND, needs="arguments")
def read_after_write(world: World) -> Part:
    """The cart is read again because it was changed in between."""
    times = world.times(4, 0.3, 1.5)
    user = {"user": world.identifier("user")}

    def body(program: Program) -> None:
        with program.inside("tool", "checkout", args=user, result={"done": True}):
            for place, seconds in enumerate(times):
                program.tool("get_cart", seconds, user, {"items": 2})
                program.tool("update_cart", 0.05, {**user, "sku": f"sku-{4000 + place}"}, {"ok": True})

    return Part(body)


@negative(KIND)
def row_changed_in_between(world: World) -> Part:
    """A query is repeated after each update of the table it reads."""
    times = world.times(4, 0.15, 0.5)
    tool, user = world.tool_name(), world.count(1000, 9999)

    def body(program: Program) -> None:
        with program.inside("tool", tool, args={"user": user}, result={"done": True}):
            for place, seconds in enumerate(times):
                program.db(BY_USER, seconds, user)
                program.db("UPDATE carts SET items = {} WHERE user_id = {}", 0.01, place + 2, user)

    return Part(body)


@negative(KIND, needs="arguments")
def two_agents_ask_the_same(world: World) -> Part:
    """Each agent of a team looks the same thing up for itself."""
    times = world.times(3, 0.5, 2.5)
    question, tool, names = {"q": world.text()}, world.tool_name(), [world.agent_name() for _ in times]
    result = {"answer": world.identifier()}

    def body(program: Program) -> None:
        with program.inside("workflow", "team"):
            for name, seconds in zip(names, times, strict=True):
                with program.inside("agent", name):
                    program.turn(asks=(tool,))
                    program.tool(tool, seconds, question, result, asked=True)
                    program.turn()

    return Part(body, whole=True)


@negative(KIND, needs="hidden")
def arguments_nobody_recorded(world: World) -> Part:
    """Calls whose arguments are hidden may all be different."""
    times = world.times(4, 0.4, 2.0)
    tool = world.tool_name()

    def body(program: Program) -> None:
        with program.inside("tool", "compose_report"):
            for place, seconds in enumerate(times):
                program.tool(tool, seconds, {"q": place}, {"answer": 1})

    return Part(body)


@negative(KIND, needs="content")
def arguments_cut_off(world: World) -> Part:
    """Long arguments that are equal as far as the attribute shows them."""
    times = world.times(4, 0.4, 2.0)
    tool, start = world.tool_name(), world.prose(1000)

    def body(program: Program) -> None:
        with program.inside("step", "grade_essays"):
            for place, seconds in enumerate(times):
                program.tool(tool, seconds, start + "...", {"grade": "good", "n": place % 2})

    return Part(body)


@negative(KIND, needs="arguments")
def quick_repeats(world: World) -> Part:
    """Repeats of a few milliseconds."""
    times = world.times(6, 0.001, 0.008)
    tool = world.tool_name()

    def body(program: Program) -> None:
        with program.inside("step", "format"):
            for seconds in times:
                program.tool(tool, seconds, {"unit": "metric"}, {"factor": 1.609})

    return Part(body)


@negative(KIND, needs="arguments")
def repeats_at_the_same_time(world: World) -> Part:
    """Equal calls in parallel cost no time that anybody waits for."""
    seconds, tool = world.log_uniform(0.5, 2.5), world.tool_name()
    question, result = {"q": world.text()}, {"answer": world.identifier()}

    def body(program: Program) -> None:
        with program.inside("step", "vote"):
            program.gather(*[lambda: program.tool(tool, seconds, question, result) for _ in range(3)])

    return Part(body)


@negative(KIND, needs="arguments")
def first_ones_failed(world: World) -> Part:
    """Two quick failures and a success: attempts, not repeats."""
    times = world.times(3, 0.02, 0.04)
    question, tool = {"q": world.text()}, world.tool_name()

    def body(program: Program) -> None:
        with program.inside("step", "fetch"):
            for place, seconds in enumerate(times):
                error = "ConnectionError" if place < 2 else None
                program.tool(tool, seconds, question, {"answer": 42}, error=error)

    return Part(body)


@negative(KIND)
def next_number_of_a_sequence(world: World) -> Part:
    """The same statement gives another number each time."""
    times = world.times(4, 0.15, 0.5)

    def body(program: Program) -> None:
        with program.inside("tool", "number_invoices", args={"n": 4}, result={"done": True}):
            for seconds in times:
                program.db("SELECT nextval('invoice_numbers')", seconds)

    return Part(body)


@unclear(KIND, needs="arguments")
def same_order_placed_twice(world: World) -> Part:
    """A call that changes something, repeated: a mistake, or meant."""
    times = world.times(3, 0.5, 2.0)

    def body(program: Program) -> None:
        with program.inside("step", "order"):
            for seconds in times:
                program.tool("create_ticket", seconds, {"title": "printer"}, {"ok": True})

    return Part(body)


@positive(KIND, needs="content")
def arguments_in_another_order(world: World) -> Part:
    """The same arguments, spelled in another order each time."""
    times = world.times(world.count(3, 5), 0.4, 2.0)
    tool, key, pairs = world.tool_name(), world.key(), [("city", world.text(1)), ("days", 3), ("unit", "metric")]
    result = {"answer": world.identifier()}

    def body(program: Program) -> None:
        with program.inside("tool", "compose_report", args={"n": 7}, result={"text": world.agent}):
            for place, seconds in enumerate(times):
                if place == 0 or not program.repaired(key):
                    program.tool(tool, seconds, dict(pairs[place % 3 :] + pairs[: place % 3]), result)

    return Part(body, (Label(KIND, (tool,), key),))


@negative(KIND)
def a_heartbeat_beside_the_work(world: World) -> Part:
    """A background task asks a health address every second while the run goes on."""
    tool, seconds = world.tool_name(), world.log_uniform(2.0, 3.8)

    def body(program: Program) -> None:
        def beat() -> None:
            for _ in range(12):
                program.http("https://api.shop.io/health", 0.02, size=2)
                program.wait(0.13)

        program.gather(lambda: program.tool(tool, seconds, {"q": world.agent}), beat)

    return Part(body)


@negative(KIND, needs="arguments")
def results_that_differ_in_one_field(world: World) -> Part:
    """A stock price asked for four times: the same question, and each time another price."""
    times, tool, args = world.times(4, 0.4, 2.0), world.tool_name(), {"symbol": "ACME"}

    def body(program: Program) -> None:
        with program.inside("step", "watch"):
            for place, seconds in enumerate(times):
                program.tool(tool, seconds, args, {"symbol": "ACME", "price": 101.5 + place / 10})

    return Part(body)
