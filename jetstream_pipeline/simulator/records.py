"""What a commit writes: its operations, each with collection, key and record.

Bodies of records belong here, and nothing about time, order or the wire.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from jetstream_pipeline.simulator.accounts import Accounts
from jetstream_pipeline.simulator.foreign import blog_entry, oddity, scrobble
from jetstream_pipeline.simulator.identifiers import blob_cid, plain_record_cid, record_cid, timestamp
from jetstream_pipeline.simulator.randomness import Dice, Randomness
from jetstream_pipeline.simulator.references import Reference, References
from jetstream_pipeline.simulator.schedule import ROLE_NUMBER, ROLES
from jetstream_pipeline.simulator.texts import Link, link, phrase, post_text
from jetstream_pipeline.simulator.units import Unit, Units

Record = dict[str, Any]

LIKE = "app.bsky.feed.like"
POST = "app.bsky.feed.post"
REPOST = "app.bsky.feed.repost"
FOLLOW = "app.bsky.graph.follow"
BLOCK = "app.bsky.graph.block"
LIST = "app.bsky.graph.list"
LIST_ITEM = "app.bsky.graph.listitem"
PROFILE = "app.bsky.actor.profile"
THREAD_GATE = "app.bsky.feed.threadgate"
POST_GATE = "app.bsky.feed.postgate"
BLOG = "com.whtwnd.blog.entry"

_HOUR_US = 3_600_000_000
_ABSURD_TIMES = (
    "0001-01-01T00:00:00.000Z",
    "2107-03-09T12:00:00Z",
    "1970-01-01T00:00:00.000Z",
    "yesterday",
    "",
)
OF_SEVERAL_OPERATIONS = tuple(
    ROLE_NUMBER[name] for name in ("gated_post", "follow_batch", "list_batch", "unfollow_batch")
)
"""The roles whose commits may hold more than one operation."""
_REPOSTS = frozenset({ROLE_NUMBER["repost"], ROLE_NUMBER["repost_via"]})
_VIA_PER_MILLE = 130
_THREADS_TRIED = 5


class Operation(NamedTuple):
    operation: str
    collection: str
    rkey: str
    record: Record | None
    has_links: bool = False

    @property
    def cid(self) -> str:
        assert self.record is not None
        return record_cid(self.record) if self.has_links else plain_record_cid(self.record)


class Records:
    """The content of every commit of one network."""

    def __init__(self, randomness: Randomness, units: Units, accounts: Accounts, rate: float) -> None:
        self._randomness = randomness
        self._units = units
        self._accounts = accounts
        self._references = References(randomness, units, self._describe, 200 + int(rate * 4))
        self._writers: dict[int, Callable[[Unit], list[Operation]]] = {
            ROLE_NUMBER[name]: writer
            for name, writer in {
                "root_post": self._post,
                "gated_post": self._gated_post,
                "reply": self._post,
                "deep_reply": self._post,
                "quote": self._post,
                "like": self._pointer,
                "repost": self._pointer,
                "repost_via": self._pointer,
                "follow": self._follows,
                "follow_batch": self._follows,
                "block": self._block,
                "list_batch": self._list,
                "blog_entry": self._foreign,
                "scrobble": self._foreign,
                "oddity": self._foreign,
                "blog_update": self._foreign,
                "birth_profile": self._profile,
                "profile_update": self._profile,
            }.items()
        }

    def operations(self, unit: Unit) -> list[Operation]:
        """What the commit does; empty for a unit that is no commit."""
        writer = self._writers.get(unit.role)
        if writer is not None:
            return writer(unit)
        if ROLES[unit.role].ends and unit.target is not None and unit.target.role in self._writers:
            written = self._writers[unit.target.role](unit.target)
            return [Operation("delete", written_.collection, written_.rkey, None) for written_ in written]
        return []

    def _describe(self, unit: Unit) -> Reference:
        operation = self.operations(unit)[0]
        assert operation.record is not None
        root = None
        if unit.role == ROLE_NUMBER["reply"]:
            root = self._references.root_post(unit.minute, unit.words[6])
        return Reference(
            unit.account.did,
            f"at://{unit.account.did}/{operation.collection}/{operation.rkey}",
            operation.cid,
            self._units.schedule.gone_minute(unit.layout, unit.role, unit.index),
            root,
        )

    def _created_at(self, unit: Unit, operation: int = 0) -> str:
        oddness = unit.words[2] & 0xFFF
        written = unit.written_us(operation)
        if oddness > 60:
            return timestamp(written)
        if oddness > 2:
            return timestamp(written + (oddness - 30) * _HOUR_US // 7)
        return _ABSURD_TIMES[unit.words[3] % len(_ABSURD_TIMES)]

    def _subject(self, unit: Unit) -> tuple[Reference, Reference | None]:
        """What a like or repost points at, and the repost through which it was seen."""
        chance = unit.words[4] % 1000
        if unit.role == ROLE_NUMBER["repost_via"] or (unit.role == ROLE_NUMBER["like"] and chance < _VIA_PER_MILLE):
            found = self._references.repost(unit.minute, unit.words[5], lambda seen: self._subject(seen)[0])
            if found is not None:
                return found[1], found[0]
        return self._references.post(unit.minute, unit.words[6]), None

    def _pointer(self, unit: Unit) -> list[Operation]:
        collection = REPOST if unit.role in _REPOSTS else LIKE
        subject, via = self._subject(unit)
        record: Record = {"$type": collection, "createdAt": self._created_at(unit), "subject": subject.strong}
        if via is not None:
            record["via"] = via.strong
        return [Operation("create", collection, unit.rkey(0), record)]

    def _follows(self, unit: Unit) -> list[Operation]:
        number = 1 if unit.role == ROLE_NUMBER["follow"] else 3 + unit.words[3] % 6
        operations = []
        for operation in range(number):
            word = (unit.words[6] * (2 * operation + 1)) & 0xFFFF_FFFF_FFFF_FFFF
            record = {
                "$type": FOLLOW,
                "createdAt": self._created_at(unit, operation),
                "subject": self._accounts.popular(word).did,
            }
            operations.append(Operation("create", FOLLOW, unit.rkey(operation), record))
        return operations

    def _block(self, unit: Unit) -> list[Operation]:
        subject = self._accounts.popular(unit.words[6]).did
        record = {"$type": BLOCK, "createdAt": self._created_at(unit), "subject": subject}
        return [Operation("create", BLOCK, unit.rkey(0), record)]

    def _list(self, unit: Unit) -> list[Operation]:
        dice = self._randomness.dice(b"list", unit.minute, unit.position)
        rkey = unit.rkey(0)
        uri = f"at://{unit.account.did}/{LIST}/{rkey}"
        record = {
            "$type": LIST,
            "createdAt": self._created_at(unit),
            "description": phrase(dice, unit.account.language, 3),
            "name": phrase(dice, unit.account.language, 1),
            "purpose": f"app.bsky.graph.defs#{'modlist' if dice.chance(300) else 'curatelist'}",
        }
        operations = [Operation("create", LIST, rkey, record)]
        for operation in range(1, 4 + dice.below(5)):
            item = {
                "$type": LIST_ITEM,
                "createdAt": self._created_at(unit, operation),
                "list": uri,
                "subject": self._accounts.popular(dice.below(1 << 64)).did,
            }
            operations.append(Operation("create", LIST_ITEM, unit.rkey(operation), item))
        return operations

    def _profile(self, unit: Unit) -> list[Operation]:
        dice = self._randomness.dice(b"profile", unit.minute, unit.position)
        born = ROLES[unit.role].name == "birth_profile"
        record: Record = {"$type": PROFILE, "avatar": _blob(dice, "image/jpeg")}
        if dice.chance(600):
            record["banner"] = _blob(dice, "image/jpeg")
        record["createdAt"] = self._created_at(unit)
        record["description"] = phrase(dice, unit.account.language, 6)
        record["displayName"] = unit.account.handle.split("-")[0].title() + (" 🔞" if dice.chance(50) else "")
        return [Operation("create" if born else "update", PROFILE, "self", record, has_links=True)]

    def _foreign(self, unit: Unit) -> list[Operation]:
        dice = self._randomness.dice(b"foreign", unit.minute, unit.position, 2)
        name = ROLES[unit.role].name
        if name == "blog_update" and unit.target is not None:
            record = blog_entry(dice, unit.account.language, self._created_at(unit.target))
            return [Operation("update", BLOG, unit.target.rkey(0), record)]
        if name == "blog_entry":
            record = blog_entry(dice, unit.account.language, self._created_at(unit))
        elif name == "scrobble":
            record = scrobble(dice, unit.account, self._created_at(unit))
        else:
            record = oddity(dice, self._created_at(unit))
        return [Operation("create", record["$type"], unit.rkey(0), record)]

    def _gated_post(self, unit: Unit) -> list[Operation]:
        post = self._post(unit)[0]
        uri = f"at://{unit.account.did}/{POST}/{post.rkey}"
        created = self._created_at(unit)
        rule = {"$type": "app.bsky.feed.threadgate#followingRule"}
        gate = {"$type": THREAD_GATE, "allow": [rule], "createdAt": created, "hiddenReplies": [], "post": uri}
        operations = [post, Operation("create", THREAD_GATE, post.rkey, gate)]
        if unit.words[3] % 2:
            disabled = {"$type": "app.bsky.feed.postgate#disableRule"}
            quotes = {
                "$type": POST_GATE,
                "createdAt": created,
                "detachedEmbeddingUris": [],
                "embeddingRules": [disabled],
                "post": uri,
            }
            operations.append(Operation("create", POST_GATE, post.rkey, quotes))
        return operations

    def _post(self, unit: Unit) -> list[Operation]:
        dice = self._randomness.dice(b"post", unit.minute, unit.position, 2)
        name = ROLES[unit.role].name
        language = unit.account.language
        mentioned = self._accounts.popular(dice.below(1 << 64)) if dice.chance(40) else None
        linked = link(dice) if dice.chance(130) else None
        text = post_text(dice, language, 11, mentioned, linked)
        record: Record = {"$type": POST, "createdAt": self._created_at(unit)}
        embed = self._embed(unit, dice, name, linked)
        if embed is not None:
            record["embed"] = embed
        if text.facets:
            record["facets"] = text.facets
        if dice.chance(15):
            labels = [{"val": ("porn", "nudity", "graphic-media")[dice.below(3)]}]
            record["labels"] = {"$type": "com.atproto.label.defs#selfLabels", "values": labels}
        if not dice.chance(60):
            record["langs"] = [language] if dice.chance(950) else [language, "en-US"]
        if name in ("reply", "deep_reply"):
            record["reply"] = self._reply(unit, name)
        record["text"] = text.text
        return [Operation("create", POST, unit.rkey(0), record, has_links=embed is not None and name != "quote")]

    def _reply(self, unit: Unit, name: str) -> dict[str, dict[str, str]]:
        if name == "deep_reply":
            for attempt in range(_THREADS_TRIED):
                parent = self._references.reply(unit.minute, unit.words[6] + attempt)
                if parent.root is not None and parent.root.gone_minute > unit.minute:
                    return {"parent": parent.strong, "root": parent.root.strong}
        parent = self._references.root_post(unit.minute, unit.words[6])
        return {"parent": parent.strong, "root": parent.strong}

    def _embed(self, unit: Unit, dice: Dice, name: str, linked: Link | None) -> Record | None:
        if name == "quote":
            quoted = self._references.root_post(unit.minute, unit.words[6])
            return {"$type": "app.bsky.embed.record", "record": quoted.strong}
        if linked is not None and dice.chance(850):
            external: Record = {"description": phrase(dice, unit.account.language, 5)}
            if dice.chance(750):
                external["thumb"] = _blob(dice, "image/jpeg")
            external |= {"title": linked.title, "uri": linked.uri}
            return {"$type": "app.bsky.embed.external", "external": external}
        if name in ("root_post", "gated_post") and dice.chance(420):
            return {"$type": "app.bsky.embed.images", "images": _images(dice, unit.account.language)}
        if dice.chance(25):
            shape = {"height": 1920, "width": 1080}
            return {"$type": "app.bsky.embed.video", "aspectRatio": shape, "video": _blob(dice, "video/mp4")}
        return None


def _images(dice: Dice, language: str) -> list[Record]:
    images = []
    for _ in range(1 + min(dice.below(4), dice.below(4))):
        alt = phrase(dice, language, 6) if dice.chance(350) else ""
        shape = {"height": 600 + dice.below(1400), "width": 600 + dice.below(1400)}
        images.append({"alt": alt, "aspectRatio": shape, "image": _blob(dice, "image/jpeg")})
    return images


def _blob(dice: Dice, mime_type: str) -> Record:
    return {
        "$type": "blob",
        "ref": {"$link": blob_cid(dice.bytes(32))},
        "mimeType": mime_type,
        "size": 1_000 + dice.below(900_000),
    }
