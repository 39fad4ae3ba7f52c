"""Plans a trip with a team of agents. Runs offline: models and services are stand-ins that only take time.

It works, and it is slow, for reasons that programs like it really have. See what agentperf says:

    agentperf run examples/trip_planner.py

`trip_planner_fixed.py` is the same program with those reasons mended.
"""

import time
from functools import lru_cache

from otel_agentperf import agent, llm, tool

SIGHTS = ["Senso-ji", "Meiji Shrine", "Ueno Park", "Tokyo Tower", "Akihabara", "Ginza",
          "Odaiba", "Asakusa", "Roppongi", "Tsukiji", "Yanaka", "Shibuya"]  # fmt: skip
PRICES = [("hotel", 92_000, "JPY"), ("flight", 640, "EUR"), ("rail pass", 50_000, "JPY"), ("insurance", 45, "EUR"),
          ("food", 60_000, "JPY"), ("luggage", 80, "EUR"), ("museums", 9_000, "JPY"), ("taxi", 55, "EUR")]  # fmt: skip


@llm(model="demo-small")
def think(prompt: str) -> dict:
    time.sleep(0.12)
    words = len(prompt.split())
    return {"text": f"next step after: {prompt}", "usage": {"input_tokens": 40 + words, "output_tokens": 12}}


@tool
def search_flights(origin: str, destination: str) -> list[dict]:
    time.sleep(0.28)
    return [{"flight": "NH204", "price": 640, "bags": 2}, {"flight": "LH716", "price": 712, "bags": 1}]


@tool
def opening_hours(sight: str) -> str:
    time.sleep(0.065)
    return f"open from 9 to {17 + len(sight) % 3}"


@tool
def weather(city: str) -> str:
    time.sleep(0.35)
    return "sunny, 21 degrees"


@tool
def find_hotels(city: str) -> list[str]:
    time.sleep(0.45)
    return ["Hotel Gracery", "Park Inn"]


@tool
def visa_rules(country: str) -> str:
    time.sleep(0.3)
    return "no visa up to 90 days"


@lru_cache(maxsize=1)  # one rate at a time, while prices alternate between two currencies
def exchange_rate(currency: str) -> float:
    time.sleep(0.09)
    return {"EUR": 1.0, "JPY": 0.0061}[currency]


_reservations = 0


@tool
def reserve_table(restaurant: str) -> str:
    """The restaurant's service times out on every reservation but the third."""
    global _reservations
    _reservations += 1
    time.sleep(0.25)
    if _reservations % 3:
        raise TimeoutError("the restaurant did not answer")
    return f"table at {restaurant} reserved"


@agent
def flight_agent(origin: str, destination: str) -> dict:
    cheapest = min(search_flights(origin, destination), key=lambda offer: offer["price"])
    roomiest = max(search_flights(origin, destination), key=lambda offer: offer["bags"])
    backup = search_flights(origin, destination)[-1]
    return {"book": cheapest["flight"], "bags": roomiest["bags"], "backup": backup["flight"]}


@agent
def sights_agent(sights: list[str]) -> dict:
    return {sight: opening_hours(sight) for sight in sights}


@agent
def city_agent(city: str, country: str) -> str:
    think(f"what to know about {city}")
    facts = [weather(city), find_hotels(city), visa_rules(country)]
    return think(f"a summary of {facts}")["text"]


@agent
def budget_agent(prices: list[tuple]) -> float:
    return sum(amount * exchange_rate(currency) for _, amount, currency in prices)


@agent
def concierge_agent(restaurant: str) -> str:
    for attempt in range(5):
        try:
            return reserve_table(restaurant)
        except TimeoutError:
            time.sleep(0.1 * (attempt + 1))
    return "no table"


@agent
def trip_planner(request: str) -> dict:
    think(f"how to plan: {request}")
    flights = flight_agent("Frankfurt", "Tokyo")
    think(f"with flights {flights}, which sights?")
    sights = sights_agent(SIGHTS)
    think("what about the city itself?")
    city = city_agent("Tokyo", "Japan")
    think("what will it cost?")
    cost = budget_agent(PRICES)
    think("where to eat on the first evening?")
    dinner = concierge_agent("Sushi Dai")
    return {"flights": flights, "sights": sights, "city": city, "cost": round(cost), "dinner": dinner}


if __name__ == "__main__":
    trip = trip_planner("a week in Tokyo in spring")
    print(f"Fly {trip['flights']['book']}, see {len(trip['sights'])} sights, spend {trip['cost']} euros.")
    print(f"The first evening: {trip['dinner']}.")
