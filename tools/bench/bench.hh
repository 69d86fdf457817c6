// `burin bench`: measures a tunnel and draws what it found.
#pragma once

#include <string>
#include <vector>

namespace burin::tools::bench {

// `arguments` are those behind `bench`. Returns the exit status: 0 all was measured and written;
// 1 it was not, stderr says why; 2 a wrong command line. Signals that end the process end what it
// started as well.
int run(const std::vector<std::string>& arguments);

}  // namespace burin::tools::bench
