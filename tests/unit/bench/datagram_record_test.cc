// What the datagrams of bench_datagrams carry, and what is learnt from those that come.
#include "bench/datagram_record.hh"

#include "tests/catch.hh"

using namespace load;

TEST_CASE("a datagram that was changed, cut or is another's is known") {
    const pattern ours(7), theirs(8);
    for (std::size_t size : {sizeof(datagram_record), std::size_t{41}, std::size_t{1200}}) {
        datagram_record r;
        r.run = 7;
        r.flow = 3;
        r.number = 1'000'000;
        std::vector<std::uint8_t> bytes(size);
        write_datagram(bytes, r, ours);
        datagram_record got;
        REQUIRE(read_datagram(bytes, got, ours));
        CHECK(got.flow == 3);
        CHECK(got.number == 1'000'000);
        CHECK_FALSE(read_datagram(std::span(bytes).first(39), got, ours));
        if (size == sizeof r) continue;
        CHECK_FALSE(read_datagram(bytes, got, theirs));
        for (std::size_t at : {std::size_t{0}, size - 1}) {
            bytes[at] ^= 1;
            CHECK_FALSE(read_datagram(bytes, got, ours));
            bytes[at] ^= 1;
        }
        // The bytes belong to the number.
        r.number += 1;
        std::memcpy(bytes.data(), &r, sizeof r);
        CHECK_FALSE(read_datagram(bytes, got, ours));
    }
}

TEST_CASE("what comes twice, late or not at all is counted") {
    arrivals a;
    for (std::uint64_t number : {0, 1, 3, 2, 3, 3, 200}) a.note(number);
    CHECK(a.count() == 5);
    CHECK(a.doubled() == 2);
    CHECK(a.overtaken() == 1);
    CHECK_FALSE(a.note(arrivals::most));
    CHECK(a.count() == 5);
    arrivals all[2] = {a, a};
    CHECK(sum(all, 9).count == 10);
    CHECK(sum(all, 9).strange == 9);
}
