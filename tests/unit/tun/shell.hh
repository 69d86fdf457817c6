// Links and addresses of a test's own namespace: the code under test makes no links.
#pragma once

#include <cstdlib>
#include <string>

#include "tests/catch.hh"

namespace burin::tun {

inline void shell(const std::string& command) {
    INFO(command);
    REQUIRE(std::system(command.c_str()) == 0);
}

}  // namespace burin::tun
