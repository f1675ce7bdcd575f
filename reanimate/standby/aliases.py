"""Second names of collections."""

from typing import Any

from reanimate.standby.errors import ApiError, collection_missing, format_error, not_found

__all__ = ["apply_action"]

Json = dict[str, Any]


def apply_action(aliases: dict[str, str], collections: set[str], action: Json) -> dict[str, str]:
    """Return the aliases after one action of `POST /collections/aliases`.

    Raises:
        ApiError: 400, 404 or 409; nothing is changed then.
    """
    try:
        if create := action.get("create_alias"):
            return _create(aliases, collections, create["alias_name"], create["collection_name"])
        if delete := action.get("delete_alias"):
            return {name: target for name, target in aliases.items() if name != delete["alias_name"]}
        if rename := action.get("rename_alias"):
            return _rename(aliases, collections, rename["old_alias_name"], rename["new_alias_name"])
    except (KeyError, TypeError, AttributeError):
        pass  # not an action: told below
    raise format_error("data did not match any variant of untagged enum AliasOperations")


def _create(aliases: dict[str, str], collections: set[str], name: str, target: str) -> dict[str, str]:
    if target not in collections:
        raise collection_missing(target)
    _refuse_collection_name(name, collections)
    return {**aliases, name: target}


def _rename(aliases: dict[str, str], collections: set[str], old: str, new: str) -> dict[str, str]:
    if old not in aliases:
        raise not_found(f"Alias {old} does not exists!")
    _refuse_collection_name(new, collections)
    renamed = {name: target for name, target in aliases.items() if name != old}
    return {**renamed, new: aliases[old]}


def _refuse_collection_name(name: str, collections: set[str]) -> None:
    if name in collections:
        raise ApiError(409, f"Wrong input: Collection `{name}` already exists!")
