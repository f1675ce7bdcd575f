"""The rules of lending, and the bound that they keep when messages are lost, late or said twice."""

import random
from dataclasses import dataclass, field, replace

import pytest

from reanimate.gateway.llm.quota.book import Book
from reanimate.gateway.llm.quota.purse import Purse, Terms
from reanimate.llm_settings import QuotaSettings
from reanimate.quota.demand import AccountKey, Ask, Demand, Lent, Meter, Reply
from reanimate.quota.leasing import Account, lend

KEY = AccountKey("q", "", "tokens", "normal", 0)
END = 86_400


def demand(**changes: int | float) -> Demand:
    given = {"key": KEY, "ends": END, "limit": 1000, "lease": 100, "lease_s": 10.0, "spent": 0, "drawn": 0, "hold": 0}
    return Demand(**{**given, **changes})  # type: ignore[arg-type]


def asked(account: Account, gateway: str, seq: int, now: float = 0.0, **changes: int | float) -> tuple[Account, Lent]:
    return lend(account, gateway, "book", seq, demand(**changes), now)


def test_lend__gives_a_block_or_what_a_call_needs() -> None:
    """What is wanted is bounded by the lease; a call that needs more than a lease gets what it needs."""
    account, lent = asked(Account(), "a", 1, want=5000)
    assert (lent.granted, lent.left) == (100, 900)
    account, lent = asked(account, "a", 2, drawn=100, hold=100, need=300, want=400)
    assert (lent.granted, lent.left) == (400, 600)


def test_lend__the_same_request_again_charges_nothing() -> None:
    """A lost answer is asked for again, with the same number or a new one: the grant is the same."""
    account, first = asked(Account(), "a", 1, need=50, want=100)
    again, second = asked(account, "a", 1, need=50, want=100)
    assert again is account
    assert second.granted == first.granted
    account, third = asked(account, "a", 2, need=50, want=100)
    assert third.granted == first.granted
    assert account.held == first.granted


def test_lend__a_request_that_comes_late_changes_nothing() -> None:
    """What was given back since is not lent once more by an old request."""
    account, _ = asked(Account(), "a", 1, want=100)
    account, _ = asked(account, "a", 3)
    assert account.held == 0
    account, _ = asked(account, "a", 2, want=100)
    assert account.held == 0


def test_lend__never_more_than_the_limit_to_all_together() -> None:
    """Ten gateways want more than there is: the sum is the limit, and the last one is refused."""
    account, given = Account(), {}
    for n in range(10):
        account, lent = asked(account, f"g{n}", 1, need=150, want=250)
        given[n] = lent
    assert sum(lent.granted for lent in given.values()) <= 1000
    assert [lent.refused for lent in given.values()] == [False] * 6 + [True] * 4
    assert given[9].left == 100
    assert account.refused_at == 0.0


def test_lend__blocks_shrink_towards_the_end() -> None:
    """Two gateways, little left: a block is a part of it, so that each still gets some."""
    account, _ = asked(Account(), "a", 1, spent=850, drawn=850, hold=850)
    account, lent = asked(account, "b", 1, want=1000)
    assert lent.granted == 38  # of 150, for two, by halves
    account, lent = asked(account, "a", 2, spent=850, drawn=850, hold=850, want=1000)
    assert lent.granted - 850 == 28


def test_lend__the_last_tokens_can_be_used() -> None:
    """However little is left, a call that needs no more gets it."""
    account, _ = asked(Account(), "a", 1, spent=999, drawn=999, hold=999)
    _, lent = asked(account, "b", 1, need=1, want=101)
    assert (lent.granted, lent.left, lent.refused) == (1, 0, False)


def test_lend__nothing_of_nothing() -> None:
    """A limit of 0 means none, divides nothing, and says so."""
    account, lent = asked(Account(), "a", 1, limit=0, need=1, want=1)
    assert (lent.granted, lent.left, lent.limit, lent.refused) == (0, 0, 0, True)
    assert account.refused_at is None  # none was meant


def test_lend__a_raised_limit_ends_what_was_refused() -> None:
    """Small calls that still fit do not: the quota stays used up until there is plenty again."""
    account, _ = asked(Account(), "a", 1, spent=950, drawn=950, hold=950, need=100)
    assert account.refused_at == 0.0
    account, _ = asked(account, "a", 2, spent=950, drawn=950, hold=950, need=10)
    assert account.refused_at == 0.0
    account, _ = asked(account, "a", 3, limit=2000, spent=960, drawn=960, hold=960, need=10)
    assert account.refused_at is None


def test_lend__what_was_granted_on_top_counts() -> None:
    """Also on top of nothing."""
    _, lent = asked(Account(extra=500), "a", 1, limit=0, need=200, want=200)
    assert (lent.granted, lent.limit) == (200, 500)


def test_lend__more_spent_than_lent_is_counted() -> None:
    """An answer that became longer than its estimate was paid: nothing is lent until there is room again."""
    account, lent = asked(Account(), "a", 1, spent=1200, drawn=1200, hold=1200, need=1, want=1)
    assert (lent.granted, lent.left, lent.refused, account.spent) == (1200, 0, True, 1200)


def test_lend__a_silent_gateway_loses_what_it_had_not_drawn() -> None:
    """After its lease, others can have it; what was drawn stays its own, though not told as spent."""
    account, _ = asked(Account(), "a", 1, want=100)
    account, _ = asked(account, "a", 2, now=1.0, spent=20, drawn=60, hold=100)
    _, before = asked(account, "b", 1, now=10.9, need=1000)
    assert before.left == 900
    account, after = asked(account, "b", 1, now=11.1, need=1000)
    assert after.left == 940


def test_lend__a_silent_gateway_that_comes_back_is_believed() -> None:
    """What it used meanwhile is counted, even over the limit."""
    account, _ = asked(Account(), "a", 1, want=100)
    account, _ = asked(account, "b", 1, now=25.0, need=1000, want=1000)
    assert account.held == 1000
    account, lent = asked(account, "a", 2, now=30.0, spent=100, drawn=100, hold=100, need=1)
    assert (account.spent, lent.refused, lent.left) == (100, True, 0)


def test_lend__a_lost_book_counts_as_used() -> None:
    """A gateway whose disk is gone cannot say what it used: nobody else gets its old lease, unless it comes back."""
    account, _ = asked(Account(), "a", 1, want=100)
    account, _ = lend(account, "a", "another", 1, demand(need=1, want=1), 8.0)
    account, lent = lend(account, "a", "another", 2, demand(drawn=1, hold=1, need=1), 11.0)
    assert lent.left == 1000 - 100 - 2
    account, lent = asked(account, "a", 2, now=12.0, spent=30, drawn=30, hold=30)
    assert (account.spent, lent.left) == (30, 1000 - 30 - 2)


def test_lend__forgotten_totals_are_added_to_what_was_told_before() -> None:
    """Totals that shrink were forgotten: what was lent before counts as used, and the new ones count on top."""
    account, _ = asked(Account(), "a", 1, want=100)
    account, _ = asked(account, "a", 2, spent=80, drawn=80, hold=100)
    account, lent = asked(account, "a", 3, spent=0, drawn=0, hold=0, need=10)
    assert (account.spent, lent.granted) == (100, 10)
    account, lent = asked(account, "a", 4, spent=10, drawn=10, hold=10)
    assert (account.spent, lent.left) == (110, 890)


@pytest.mark.parametrize(("now", "granted"), [(-61.0, 0), (-59.0, 100), (END + 59.0, 100), (END + 61.0, 0)])
def test_lend__only_of_the_window_that_is_now(now: float, granted: int) -> None:
    """A clock that is a day off gets nothing of tomorrow; what was used is counted all the same."""
    account, lent = asked(Account(), "a", 1, now=now, spent=5, drawn=5, hold=5, want=100)
    assert lent.granted - 5 == granted
    assert account.spent == 5


def test_lend__hundreds_of_books_do_not_make_a_row_grow() -> None:
    """A gateway without a disk, started every minute: the oldest are added up."""
    account = Account()
    for n in range(300):
        account, _ = lend(account, "a", f"book{n}", 1, demand(limit=10**6, spent=10, drawn=10, hold=10), n * 60.0)
    assert len(account.leases) == 100
    assert account.spent == 3000


def test_wire__says_what_was_said() -> None:
    """An ask and a reply survive their encoding."""
    ask = Ask("a", "book", 7, (demand(need=3), demand(incident=""), replace(demand(), key=KEY._replace(tenant="é"))))
    assert Ask.decode(ask.encode()) == ask
    reply = Reply((Lent(1, 2, 3, 4, True, 5, 6.0),))
    assert Reply.decode(reply.encode()) == reply


@dataclass
class World:
    """Some gateways, one ledger, and a network that loses, delays and repeats."""

    seed: int
    limit: int = 1000
    extra: int = 0
    """Granted on top."""
    connected: bool = True
    account: Account = field(default_factory=Account)
    now: float = 0.0
    seq: int = 0

    def __post_init__(self) -> None:
        self.account = Account(extra=self.extra)
        self.random = random.Random(self.seed)
        self.settings = QuotaSettings(name="q", tokens=self.limit, lease=0.08, away=0.05)
        terms = Terms.of(self.settings, Meter.TOKENS)
        assert terms is not None
        self.terms = terms
        self.pages = [Book.loose() for _ in range(3)]
        self.purses = [Purse(KEY, END, terms, page) for page in self.pages]
        self.underway: list[list[int]] = [[] for _ in self.purses]
        self.late: list[tuple[int, int, Demand]] = []
        self.over = 0

    def step(self) -> None:
        which = self.random.randrange(len(self.purses))
        purse = self.purses[which]
        match self.random.choice(("call", "call", "call", "end", "ask", "ask", "wait", "kill", "late")):
            case "call":
                amount = self.random.randint(1, 40)
                if purse.drawn + amount <= purse.ceiling:
                    purse.take(amount)
                    self.underway[which].append(amount)
                else:
                    self.ask(which, amount)
            case "end" if self.underway[which]:
                amount = self.underway[which].pop()
                purse.settle(amount, self.random.randint(0, amount))
            case "ask":
                self.ask(which, 0)
            case "wait":
                self.now += self.random.choice((0.5, 4.0, 0.0 if self.connected else 15.0))
            case "kill":
                # What was reserved at that moment counts as used from then on.
                self.underway[which].clear()
                self.purses[which] = Purse(KEY, END, self.terms, self.pages[which])
            case "late" if self.late:
                holder, seq, demand = self.random.choice(self.late)
                self.account, _ = lend(self.account, f"g{holder}", "book", seq, demand, self.now)

    def ask(self, which: int, need: int) -> None:
        purse = self.purses[which]
        purse.wanted = self.random.random() < 0.5
        demand = purse.demand(need, need, self.now)
        self.seq += 1
        self.late.append((which, self.seq, demand))
        fate = "answered" if self.connected else self.random.choice(("answered", "lost", "unheard", "unheard"))
        if fate != "lost":
            self.account, lent = lend(self.account, f"g{which}", "book", self.seq, demand, self.now)
        if fate == "answered":
            purse.lent(demand, lent, self.now)
        else:
            purse.go_on_alone()

    def renew_all(self) -> None:
        for which in range(len(self.purses)):
            self.ask(which, 0)

    @property
    def drawn(self) -> int:
        return sum(purse.drawn for purse in self.purses)


@pytest.mark.parametrize("extra", [0, 500])
@pytest.mark.parametrize("seed", range(60))
def test_bound__with_the_control_plane_there_the_limit_is_never_passed(seed: int, extra: int) -> None:
    """Whatever is repeated or comes late, and whoever is killed: what is drawn by all stays within the limit.

    What was granted on top counts once, however often a gateway asks.
    """
    world = World(seed, extra=extra)
    for n in range(1500):
        world.step()
        if n % 5 == 0:
            world.renew_all()  # nobody is silent for as long as a lease
        assert world.drawn <= world.limit + extra
        assert all(purse.limit in (world.limit, world.limit + extra) for purse in world.purses if purse.others)
    world.renew_all()
    assert world.account.spent == sum(purse.spent for purse in world.purses)
    assert world.drawn > 900 + extra  # and it could be used


def test_grant__is_still_known_after_a_restart() -> None:
    """A gateway that comes back before it hears anything does not take a granted quota for used up."""
    terms = Terms.of(QuotaSettings(name="q", requests=100), Meter.REQUESTS)
    assert terms is not None
    page, key = Book.loose(), KEY._replace(meter="requests")
    purse = Purse(key, END, terms, page)
    account = Account(extra=50)
    for seq in range(115):
        asked = purse.demand(1, 1, 0.0)
        account, lent = lend(account, "a", "book", seq + 1, asked, 0.0)
        purse.lent(asked, lent, 0.0)
        purse.settle(0, 1)
        purse.take(0)
    assert (purse.drawn, purse.limit) == (115, 150)
    again = Purse(key, END, terms, page)
    assert again.limit == 150
    assert again.share_left == pytest.approx(35 / 150)
    assert Purse(key, END, terms, Book.loose()).limit == 100


@pytest.mark.parametrize("seed", range(60))
def test_bound__when_messages_are_lost_it_is_passed_by_a_lease_for_each_gateway_at_most(seed: int) -> None:
    """The stated bound: the larger of lease and away, times the gateways."""
    world = World(seed, connected=False)
    bound = world.limit + 3 * max(world.terms.lease, world.terms.away)
    for _ in range(1500):
        world.step()
        assert world.drawn <= bound
    world.connected = True
    world.renew_all()
    assert world.account.spent == sum(purse.spent for purse in world.purses)


def test_bound__a_silent_control_plane_from_the_beginning() -> None:
    """Nothing was ever lent: each gateway gives out the share `away`, and a limit of 0 still means none."""
    for limit, room in ((1000, 50), (0, 0)):
        terms = Terms.of(QuotaSettings(name="q", tokens=limit, away=0.05), Meter.TOKENS)
        assert terms is not None
        purse = Purse(KEY, END, terms, Book.loose())
        purse.go_on_alone()
        assert purse.ceiling == room
