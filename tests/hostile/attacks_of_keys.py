"""Keys that are guessed, monstrous, leaked or contradictory, and addresses that are invented."""

from __future__ import annotations

from tests.hostile.attack import Attack
from tests.hostile.attacks_of_bodies import BODY, FORM
from tests.hostile.oddities import FORWARDED, GUESSED, KEYS
from tests.hostile.wire import Wire, head, pieces


class Guesses(Attack):
    """Wrong keys as fast as they are refused, with long bodies and with invented addresses."""

    name = "keys"

    async def run(self) -> None:
        await self.crowd(60, self._once, pause=0.05)

    async def _once(self, wire: Wire, index: int) -> None:
        chance = self.chance
        field, value = chance.choice((("Authorization", "Bearer {}"), ("X-API-Key", "{}")))
        given: dict[str, object] = {field: value.format(chance.choice(KEYS))}
        given["X-Forwarded-For"] = chance.choice(FORWARDED)
        tier = self.target.tier
        match index % 4:
            case 0:
                await wire.send(head("GET", "/v1/predictions?limit=100", given))
            case 1:
                await wire.send(head("GET", f"/v1/tiers?key={GUESSED}", {}))
            case 2:
                await wire.send(head("GET", f"/v1/predictions/{GUESSED}", given))
            case _:
                given |= {"Content-Type": FORM, "Content-Length": BODY}
                await wire.send(head("POST", f"/img-classification/{tier}", given))
                await wire.send_all(pieces(BODY, b"x"))
        await wire.answer()
