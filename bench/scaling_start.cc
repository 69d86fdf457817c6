// bench_scaling_start: `scaling` of a packed folder (bench/scaling_pack.hh). Linked statically, so
// that it runs whatever the machine has; starts bin/bench_scaling through the loader in lib.
#include <dirent.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

int main(int argc, char** argv) {
    char own[PATH_MAX];
    ssize_t size = ::readlink("/proc/self/exe", own, sizeof own);
    std::string folder = size > 0 ? std::string(own, static_cast<std::size_t>(size)) : argv[0];
    const std::size_t slash = folder.rfind('/');
    folder = slash == folder.npos ? "." : folder.substr(0, slash);
    std::string loader;
    if (DIR* lib = ::opendir((folder + "/lib").c_str())) {
        while (const dirent* entry = ::readdir(lib))
            if (std::strncmp(entry->d_name, "ld-", 3) == 0)
                loader = folder + "/lib/" + entry->d_name;
        ::closedir(lib);
    }
    if (loader.empty()) {
        std::fprintf(stderr, "scaling: there is no loader in %s/lib: copy the folder whole\n",
                     folder.c_str());
        return 2;
    }
    std::string words_of_ours[] = {loader,          "--library-path",
                                   folder + "/lib", folder + "/bin/bench_scaling",
                                   "--packed",      loader};
    std::vector<char*> words;
    for (std::string& word : words_of_ours) words.push_back(word.data());
    for (int i = 1; i < argc; ++i) words.push_back(argv[i]);
    words.push_back(nullptr);
    ::execv(loader.c_str(), words.data());
    std::fprintf(stderr, "scaling: cannot start %s: %s\n", loader.c_str(), std::strerror(errno));
    return 2;
}
