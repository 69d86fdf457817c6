#include "tun/flow_table.hh"

#include <unordered_map>
#include <vector>

#include "tests/catch.hh"

using namespace burin::tun;

namespace {

flow_key flow(std::uint32_t number) {
    flow_key key;
    key.source = flow_address::v4(0x0a000000 + number / 60000);
    key.destination = flow_address::v4(0xc0000201);
    key.source_port = static_cast<std::uint16_t>(1 + number % 60000);
    key.destination_port = 443;
    return key;
}

}  // namespace

TEST_CASE("what is put in is found, what is taken out is not") {
    flow_table table({1, 2}, 100);
    REQUIRE(table.find(flow(1)) == flow_table::none);
    REQUIRE(table.insert(flow(1), 7) == flow_table::outcome::inserted);
    REQUIRE(table.insert(flow(1), 8) == flow_table::outcome::present);
    REQUIRE(table.find(flow(1)) == 7);
    REQUIRE_FALSE(table.erase(flow(2)));
    REQUIRE(table.erase(flow(1)));
    REQUIRE(table.find(flow(1)) == flow_table::none);
    REQUIRE(table.size() == 0);
}

TEST_CASE("every part of the five-tuple counts") {
    flow_table table({3, 4}, 100);
    const flow_key base = flow(5);
    flow_key others[5] = {base, base, base, base, base};
    others[0].source = flow_address::v4(1);
    others[1].destination = flow_address::v4(1);
    others[2].source_port ^= 1;
    others[3].destination_port ^= 1;
    others[4].protocol = ip_protocol::udp;
    REQUIRE(table.insert(base, 0) == flow_table::outcome::inserted);
    for (std::uint32_t i = 0; i < 5; ++i) {
        REQUIRE(table.find(others[i]) == flow_table::none);
        REQUIRE(table.insert(others[i], i + 1) == flow_table::outcome::inserted);
    }
    for (std::uint32_t i = 0; i < 5; ++i) REQUIRE(table.find(others[i]) == i + 1);
}

TEST_CASE("the limit refuses and grows no further") {
    flow_table table({5, 6}, 3000);
    for (std::uint32_t i = 0; i < 3000; ++i) {
        REQUIRE(table.insert(flow(i), i) == flow_table::outcome::inserted);
    }
    const std::size_t memory = table.memory_bytes();
    REQUIRE(table.insert(flow(3000), 1) == flow_table::outcome::full);
    REQUIRE(table.insert(flow(2999), 1) == flow_table::outcome::present);
    REQUIRE(table.erase(flow(0)));
    REQUIRE(table.insert(flow(3000), 1) == flow_table::outcome::inserted);
    REQUIRE(table.memory_bytes() == memory);
}

TEST_CASE("random churn agrees with a map") {
    flow_table table({7, 8}, 20000);
    std::unordered_map<std::uint32_t, std::uint32_t> model;
    std::uint32_t state = 99;
    for (std::uint32_t step = 0; step < 200000; ++step) {
        state = state * 1664525 + 1013904223;
        const std::uint32_t number = (state >> 12) % 12000;
        const auto known = model.find(number);
        bool right = true;
        switch (state >> 30) {
            case 0:
                right = table.erase(flow(number)) == (known != model.end());
                model.erase(number);
                break;
            case 1:
                right = table.find(flow(number)) ==
                        (known != model.end() ? known->second : flow_table::none);
                break;
            default:
                right = (table.insert(flow(number), step) == flow_table::outcome::inserted) ==
                        model.emplace(number, step).second;
        }
        if (!right || table.size() != model.size()) FAIL("step " << step);
    }
    for (const auto& [number, index] : model) {
        if (table.find(flow(number)) != index) FAIL("flow " << number);
    }
}

TEST_CASE("another key is another hash") {
    REQUIRE(keyed_hash({1, 2}, flow(1)) == keyed_hash({1, 2}, flow(1)));
    REQUIRE(keyed_hash({1, 2}, flow(1)) != keyed_hash({1, 3}, flow(1)));
    REQUIRE(keyed_hash({1, 2}, flow(1)) != keyed_hash({1, 2}, flow(2)));
}

TEST_CASE("addresses are written as people write them") {
    REQUIRE(to_text(flow_address::v4(0xc0000207)) == "192.0.2.7");
    flow_address six;
    six.bytes = {0x20, 0x01, 0x0d, 0xb8};
    six.bytes[15] = 1;
    REQUIRE(to_text(six) == "2001:db8::1");
    REQUIRE_FALSE(six.is_v4());
    REQUIRE(flow_address::v4(0x7f000001).to_v4() == 0x7f000001);
}
