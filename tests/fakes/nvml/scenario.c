/* The scenario file, and what it says of a call. */
#include "fake.h"

struct line lines[LINES];
int line_count, sessions, leases;
static char *text;
static struct stat seen;
static Device devices[GPUS][1 + SLOTS];

static int by_key(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static char *strip(char *s) {
    s += strspn(s, " \t\r");
    for (char *end = s + strlen(s); end > s && strchr(" \t\r", end[-1]);) *--end = 0;
    return s;
}

/* Read the scenario again if another file is in its place. */
static void refresh(void) {
    const char *path = getenv("W2T_FAKE_NVML");
    struct stat now;
    if (!path || stat(path, &now)) return;
    if (now.st_ino == seen.st_ino && now.st_size == seen.st_size &&
        now.st_mtim.tv_sec == seen.st_mtim.tv_sec && now.st_mtim.tv_nsec == seen.st_mtim.tv_nsec)
        return;
    FILE *file = fopen(path, "r");
    if (!file) return;
    seen = now;
    text = realloc(text, (size_t)now.st_size + 1);
    text[fread(text, 1, (size_t)now.st_size, file)] = 0;
    fclose(file);
    line_count = 0;
    for (char *rest = text, *line; line_count < LINES && (line = strsep(&rest, "\n"));) {
        char *value = strchr(line, '=');
        if (!value || *strip(line) == '#') continue;
        *value++ = 0;
        lines[line_count].key = strip(line);
        lines[line_count++].value = strip(value);
    }
    qsort(lines, (size_t)line_count, sizeof *lines, by_key);
}

const char *get(const char *key) {
    char **found = bsearch(&key, lines, (size_t)line_count, sizeof *lines, by_key);
    return found ? found[1] : NULL;
}

const char *gpu(Device *device, const char *key) {
    char name[128];
    if (device->mig < 0)
        snprintf(name, sizeof name, "gpu.%d.%s", device->slot, key);
    else
        snprintf(name, sizeof name, "gpu.%d.mig.%d.%s", device->slot, device->mig, key);
    return get(name);
}

const char *gpu_n(Device *device, const char *key, unsigned n) {
    char name[96];
    snprintf(name, sizeof name, "%s.%u", key, n);
    return gpu(device, name);
}

double clock_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

double number_at(const char *value, double now) {
    char *end;
    double base = strtod(value, &end), rate, t0;
    return sscanf(end, " + %lf @ %lf", &rate, &t0) == 2 ? base + rate * (now - t0) : base;
}

double number(const char *value) { return number_at(value, clock_now()); }

Device *device_at(int slot, int mig) {
    Device *device = &devices[slot][1 + mig];
    *device = (Device){slot, mig};
    return device;
}

/* Say whether `fault = FUNCTION [UUID]` is about this call. */
static int struck(const char *fault, const char *function, const char *uuid) {
    size_t length = strlen(function);
    const char *value = get(fault);
    if (!value || strncmp(value, function, length)) return 0;
    const char *only = value + length + strspn(value + length, " ");
    return value[length] ? *only && uuid && !strcmp(only, uuid) : 1;
}

int enter(Device *device, const char *function) {
    refresh();
    const char *uuid = device ? gpu(device, "uuid") : NULL, *value;
    if (struck("crash", function, uuid)) abort();
    while (struck("hang", function, uuid)) {
        nanosleep(&(struct timespec){0, 20000000}, NULL);
        refresh();
        uuid = device ? gpu(device, "uuid") : NULL;
    }
    if (!sessions) return UNINITIALIZED;
    if (!device) return OK;
    if (device < devices[0] || device > &devices[GPUS - 1][SLOTS]) return INVALID_ARGUMENT;
    if (!uuid) return GPU_IS_LOST;
    if ((value = gpu(device_at(device->slot, -1), "error"))) return atoi(value);
    char name[96];
    snprintf(name, sizeof name, "%s.error", function);
    return (value = gpu(device, name)) ? atoi(value) : OK;
}

int give_text(const char *value, char *out, unsigned size) {
    if (!value) return NOT_SUPPORTED;
    if (strlen(value) >= size) return INSUFFICIENT_SIZE;
    strcpy(out, value);
    return OK;
}

int give_uint(const char *value, unsigned *out) {
    if (!value) return NOT_SUPPORTED;
    *out = (unsigned)number(value);
    return OK;
}

int give_ull(const char *value, unsigned long long *out) {
    if (!value) return NOT_SUPPORTED;
    *out = (unsigned long long)number(value);
    return OK;
}
