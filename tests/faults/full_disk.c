/* A disk that becomes full, or fails, at a chosen call: loaded before the C library, it counts the calls that change
   files below a folder, and refuses those from a number on, whoever makes them (Python, libsndfile, Rust, SQLite).

   The call at that number, if it writes, still writes half of what it was given: a short write. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static char folder[PATH_MAX];
static long calls, first_refused = LONG_MAX;
static int error_number = ENOSPC;

/* From now on, the calls below `below` with number `first` and later fail with `number`; counting begins at 0. */
void full_disk_from(const char *below, long first, int number) {
    snprintf(folder, sizeof folder, "%s", below);
    __atomic_store_n(&calls, 0, __ATOMIC_SEQ_CST);
    error_number = number;
    first_refused = first;
}

long full_disk_calls(void) { return __atomic_load_n(&calls, __ATOMIC_SEQ_CST); }

static int is_below(const char *path) {
    size_t length = strlen(folder);
    return length && path && !strncmp(path, folder, length) && (path[length] == '/' || !path[length]);
}

static int is_open_below(int descriptor) {
    char name[64], path[PATH_MAX];
    if (!folder[0]) return 0;
    snprintf(name, sizeof name, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(name, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return is_below(path);
}

/* Counts a call; returns 0 if it is granted, 1 if it is the first one refused, 2 after that. */
static int refused(void) {
    long number = __atomic_fetch_add(&calls, 1, __ATOMIC_SEQ_CST);
    if (number < first_refused) return 0;
    errno = error_number;
    return number == first_refused ? 1 : 2;
}

#define FIND(name) if (!real) real = dlsym(RTLD_NEXT, name)

#define OPEN(name)                                                                   \
    int name(const char *path, int flags, ...) {                                     \
        static int (*real)(const char *, int, ...);                                  \
        va_list rest;                                                                \
        va_start(rest, flags);                                                       \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0;    \
        va_end(rest);                                                                \
        if ((flags & O_CREAT) && is_below(path) && refused()) return -1;             \
        FIND(#name);                                                                 \
        return real(path, flags, mode);                                              \
    }
OPEN(open)
OPEN(open64)

#define WRITE(name, parameters, ...)                                                 \
    ssize_t name parameters {                                                        \
        static ssize_t (*real) parameters;                                           \
        if (is_open_below(file)) {                                                   \
            int answer = refused();                                                  \
            if (answer == 2 || (answer == 1 && count < 2)) return -1;                \
            if (answer == 1) count /= 2;                                             \
        }                                                                            \
        FIND(#name);                                                                 \
        return real(__VA_ARGS__);                                                    \
    }
WRITE(write, (int file, const void *data, size_t count), file, data, count)
WRITE(pwrite, (int file, const void *data, size_t count, off_t at), file, data, count, at)
WRITE(pwrite64, (int file, const void *data, size_t count, off64_t at), file, data, count, at)

#define SYNC(name)                                                                   \
    int name(int file) {                                                             \
        static int (*real)(int);                                                     \
        if (is_open_below(file) && refused()) return -1;                             \
        FIND(#name);                                                                 \
        return real(file);                                                           \
    }
SYNC(fsync)
SYNC(fdatasync)

#define MOVE(name)                                                                   \
    int name(const char *from, const char *to) {                                     \
        static int (*real)(const char *, const char *);                              \
        if (is_below(to) && refused()) return -1;                                    \
        FIND(#name);                                                                 \
        return real(from, to);                                                       \
    }
MOVE(rename)
MOVE(link)

int mkdir(const char *path, mode_t mode) {
    static int (*real)(const char *, mode_t);
    if (is_below(path) && refused()) return -1;
    FIND("mkdir");
    return real(path, mode);
}
