import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.errors import CapacityError, ConfigError
from inference.gateway.ports import MediaPorts


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def ports(shared=(40000, 40002), exclusive=(41000, 41003), quarantine_s=10.0):
    clock = Clock()
    return MediaPorts("192.0.2.1", shared, exclusive, quarantine_s, clock=clock), clock


def test_legs_spread_over_shared_ports():
    made, _ = ports()
    assert sorted(made.shared() for _ in range(4)) == [40000, 40000, 40002, 40002]


def test_no_shared_port_is_said():
    made, _ = ports(shared=())
    with pytest.raises(ConfigError, match=r"media\.ports"):
        made.shared()


def test_a_port_rests_between_two_legs():
    made, clock = ports(exclusive=(41000, 41000))
    port = made.lease()
    with pytest.raises(CapacityError, match=r"media\.exclusive_ports"):
        made.lease()
    made.give_back(port)
    clock.now_s += 9.9
    with pytest.raises(CapacityError):
        made.lease()
    clock.now_s += 0.2
    assert made.lease() == port


def test_without_a_range_nothing_is_leased():
    made, _ = ports(exclusive=None)
    with pytest.raises(CapacityError):
        made.lease()


def test_a_shared_port_given_back_joins_no_pool():
    made, _ = ports(exclusive=None)
    made.give_back(made.shared())
    assert made.num_leased == 0
    with pytest.raises(CapacityError):
        made.lease()


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.floats(0, 6))))
def test_no_port_is_leased_twice_nor_before_it_rested(steps):
    made, clock = ports()
    leased: dict[int, None] = {}
    back_s: dict[int, float] = {}
    for is_lease, which, pause_s in steps:
        clock.now_s += pause_s
        if is_lease:
            try:
                port = made.lease()
            except CapacityError:
                continue
            assert port not in leased
            assert clock.now_s - back_s.get(port, -1e9) >= 10.0
            leased[port] = None
        elif leased:
            port = list(leased)[which % len(leased)]
            made.give_back(port)
            del leased[port]
            back_s[port] = clock.now_s
        assert made.num_leased == len(leased)
