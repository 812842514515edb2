/* A stand-in for NVIDIA's libnvidia-ml.so.1, driven by a scenario file.
 *
 * It speaks NVML's binary interface, as the real pynvml calls it: signatures, struct layouts and
 * return codes are those of NVIDIA's published API reference; all code here is our own.
 *
 * The file named by W2T_FAKE_NVML holds `key = value` lines ('#' starts a comment) and is read
 * again whenever it changes. A number may be a ramp, `base + rate @ t0`: rate is per second since
 * t0, in seconds since the epoch, so that mW make mJ. What the file does not give is NOT_SUPPORTED.
 *
 *   driver = 580.105.08        init_error = 9
 *   hang = FUNCTION            crash = FUNCTION         (or FUNCTION GPU-UUID, for one GPU)
 *   gpu.N.uuid|name|serial|vbios|bus_id = text          gpu.N.arch|pci_device_id|mig = number
 *   gpu.N.error = CODE         gpu.N.FUNCTION.error = CODE
 *   gpu.N.field.ID[.SCOPE] = number, or: error CODE     gpu.N.timestamp_us = of all fields
 *   gpu.N.power_mw|power_limit_mw|energy_mj|temperature|margin|reasons|reasons_supported = number
 *   gpu.N.threshold.TYPE|clock.TYPE|clock_max.TYPE|violation.POLICY = number
 *   gpu.N.utilization.gpu|utilization.memory = percent  gpu.N.memory.total|reserved|used = bytes
 *   gpu.N.process.PID.memory = bytes, or: n/a           gpu.N.process.PID.sm = percent
 *   gpu.N.process.PID.sampled_us = time of its sample   abi_535 = 1 (process list as of 535.43)
 *
 * GPUs keep their slot N; their NVML index is their rank among those that are there.
 * -DOLD_DRIVER leaves out what drivers before 510 do not export.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define API __attribute__((visibility("default"))) int

enum {
    OK = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9, GPU_IS_LOST = 15, VERSION_MISMATCH = 25
};
enum { GPUS = 64, LINES = 16384 };

typedef struct { int slot; } Device;
typedef struct {
    uint32_t id, scope;
    int64_t timestamp, latency;
    uint32_t type, status;
    union { double d; uint32_t ui; uint64_t ull; int32_t si; } value;
} Field;
typedef struct { uint32_t version, sensor; int32_t celsius; } Temperature;
typedef struct { uint32_t version; int32_t celsius; } Margin;
typedef struct { uint64_t total, free, used; } Memory;
typedef struct { uint32_t version; uint64_t total, reserved, free, used; } Memory2;
typedef struct { uint32_t pid; uint64_t memory; uint32_t gi, ci; } Process;
typedef struct { uint32_t pid; uint64_t memory; uint32_t gi, ci; uint64_t protected; } Process535;
typedef struct { uint32_t pid; uint64_t timestamp; uint32_t sm, memory, encoder, decoder; } Use;
typedef struct { uint64_t reference, violation; } Violation;
typedef struct {
    char legacy[16];
    uint32_t domain, bus, device, id, subsystem;
    char bus_id[32];
} Pci;

_Static_assert(sizeof(Field) == 40, "nvmlFieldValue_t");
_Static_assert(sizeof(Temperature) == 12, "nvmlTemperature_v1_t");
_Static_assert(sizeof(Margin) == 8, "nvmlMarginTemperature_v1_t");
_Static_assert(sizeof(Memory2) == 40, "nvmlMemory_v2_t");
_Static_assert(sizeof(Process) == 24, "nvmlProcessInfo_t");
_Static_assert(sizeof(Use) == 32, "nvmlProcessUtilizationSample_t");
_Static_assert(sizeof(Pci) == 68, "nvmlPciInfo_t");

#define VERSION(type, n) ((uint32_t)(sizeof(type) | (n) << 24))

static struct { char *key, *value; } lines[LINES];
static int line_count, sessions;
static char *text;
static struct stat seen;
static Device devices[GPUS];

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

static const char *get(const char *key) {
    char **found = bsearch(&key, lines, (size_t)line_count, sizeof *lines, by_key);
    return found ? found[1] : NULL;
}

static const char *gpu(Device *device, const char *key) {
    char name[128];
    snprintf(name, sizeof name, "gpu.%d.%s", device->slot, key);
    return get(name);
}

static const char *gpu_n(Device *device, const char *key, unsigned n) {
    char name[96];
    snprintf(name, sizeof name, "%s.%u", key, n);
    return gpu(device, name);
}

static double clock_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static double number_at(const char *value, double now) {
    char *end;
    double base = strtod(value, &end), rate, t0;
    return sscanf(end, " + %lf @ %lf", &rate, &t0) == 2 ? base + rate * (now - t0) : base;
}

static double number(const char *value) { return number_at(value, clock_now()); }

/* Say whether `fault = FUNCTION [UUID]` is about this call. */
static int struck(const char *fault, const char *function, const char *uuid) {
    size_t length = strlen(function);
    const char *value = get(fault);
    if (!value || strncmp(value, function, length)) return 0;
    const char *only = value + length + strspn(value + length, " ");
    return value[length] ? *only && uuid && !strcmp(only, uuid) : 1;
}

/* What every call does first: look at the scenario; hang while it says so, crash or fail. */
static int enter(Device *device, const char *function) {
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
    if (device < devices || device >= devices + GPUS) return INVALID_ARGUMENT;
    if (!uuid) return GPU_IS_LOST;
    if ((value = gpu(device, "error"))) return atoi(value);
    char name[96];
    snprintf(name, sizeof name, "%s.error", function);
    return (value = gpu(device, name)) ? atoi(value) : OK;
}

#define ENTER(device)                                     \
    do {                                                  \
        int status_ = enter((device), __func__);          \
        if (status_) return status_;                      \
    } while (0)

static int give_text(const char *value, char *out, unsigned size) {
    if (!value) return NOT_SUPPORTED;
    if (strlen(value) >= size) return INSUFFICIENT_SIZE;
    strcpy(out, value);
    return OK;
}

static int give_uint(const char *value, unsigned *out) {
    if (!value) return NOT_SUPPORTED;
    *out = (unsigned)number(value);
    return OK;
}

static int give_ull(const char *value, unsigned long long *out) {
    if (!value) return NOT_SUPPORTED;
    *out = (unsigned long long)number(value);
    return OK;
}

API nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    enter(NULL, __func__);
    const char *error = get("init_error");
    if (error) return atoi(error);
    if (!line_count) return DRIVER_NOT_LOADED;
    sessions++;
    return OK;
}

API nvmlShutdown(void) {
    ENTER(NULL);
    sessions--;
    return OK;
}

__attribute__((visibility("default"))) const char *nvmlErrorString(int code) {
    static char name[32];
    snprintf(name, sizeof name, "fake error %d", code);
    return name;
}

API nvmlSystemGetDriverVersion(char *out, unsigned size) {
    ENTER(NULL);
    return give_text(get("driver"), out, size);
}

API nvmlDeviceGetCount_v2(unsigned *count) {
    ENTER(NULL);
    *count = 0;
    for (int slot = 0; slot < GPUS; slot++) {
        devices[slot].slot = slot;
        *count += gpu(&devices[slot], "uuid") != NULL;
    }
    return OK;
}

API nvmlDeviceGetHandleByIndex_v2(unsigned index, Device **out) {
    ENTER(NULL);
    unsigned rank = 0;
    for (int slot = 0; slot < GPUS; slot++) {
        devices[slot].slot = slot;
        if (!gpu(&devices[slot], "uuid") || rank++ != index) continue;
        *out = &devices[slot];
        return enter(*out, __func__);
    }
    return INVALID_ARGUMENT;
}

#define TEXT(function, key)                                            \
    API function(Device *device, char *out, unsigned size) {           \
        ENTER(device);                                                 \
        return give_text(gpu(device, key), out, size);                 \
    }
TEXT(nvmlDeviceGetUUID, "uuid")
TEXT(nvmlDeviceGetName, "name")
TEXT(nvmlDeviceGetSerial, "serial")
TEXT(nvmlDeviceGetVbiosVersion, "vbios")

#define UINT(function, key)                                            \
    API function(Device *device, unsigned *out) {                      \
        ENTER(device);                                                 \
        return give_uint(gpu(device, key), out);                       \
    }
UINT(nvmlDeviceGetArchitecture, "arch")
UINT(nvmlDeviceGetPowerUsage, "power_mw")
UINT(nvmlDeviceGetEnforcedPowerLimit, "power_limit_mw")

#define UINT_OF(function, key)                                         \
    API function(Device *device, unsigned type, unsigned *out) {       \
        ENTER(device);                                                 \
        return give_uint(gpu_n(device, key, type), out);               \
    }
UINT_OF(nvmlDeviceGetClockInfo, "clock")
UINT_OF(nvmlDeviceGetMaxClockInfo, "clock_max")
UINT_OF(nvmlDeviceGetTemperatureThreshold, "threshold")

#define ULL(function, key)                                             \
    API function(Device *device, unsigned long long *out) {            \
        ENTER(device);                                                 \
        return give_ull(gpu(device, key), out);                        \
    }
ULL(nvmlDeviceGetTotalEnergyConsumption, "energy_mj")
ULL(nvmlDeviceGetCurrentClocksThrottleReasons, "reasons")
ULL(nvmlDeviceGetSupportedClocksThrottleReasons, "reasons_supported")

API nvmlDeviceGetPciInfo_v3(Device *device, Pci *out) {
    ENTER(device);
    const char *id = gpu(device, "pci_device_id");
    memset(out, 0, sizeof *out);
    out->id = id ? (uint32_t)strtoul(id, NULL, 0) : 0;
    return give_text(gpu(device, "bus_id"), out->bus_id, sizeof out->bus_id);
}

API nvmlDeviceGetMigMode(Device *device, unsigned *current, unsigned *pending) {
    ENTER(device);
    int status = give_uint(gpu(device, "mig"), current);
    *pending = *current;
    return status;
}

API nvmlDeviceGetTemperature(Device *device, unsigned sensor, unsigned *out) {
    ENTER(device);
    if (sensor) return INVALID_ARGUMENT;
    return give_uint(gpu(device, "temperature"), out);
}

API nvmlDeviceGetUtilizationRates(Device *device, unsigned out[2]) {
    ENTER(device);
    int status = give_uint(gpu(device, "utilization.gpu"), &out[0]);
    return status ? status : give_uint(gpu(device, "utilization.memory"), &out[1]);
}

API nvmlDeviceGetViolationStatus(Device *device, unsigned policy, Violation *out) {
    ENTER(device);
    const char *value = gpu_n(device, "violation", policy);
    if (!value) return NOT_SUPPORTED;
    out->reference = (uint64_t)(clock_now() * 1e6);
    out->violation = (uint64_t)number(value);
    return OK;
}

/* As of drivers from 510 on: what is reserved counts as used here and is told apart in version 2. */
static int memory(Device *device, Memory2 *out) {
    const char *total = gpu(device, "memory.total"), *reserved = gpu(device, "memory.reserved");
    const char *used = gpu(device, "memory.used");
    if (!total || !used) return NOT_SUPPORTED;
    out->total = (uint64_t)number(total);
    out->reserved = reserved ? (uint64_t)number(reserved) : 0;
    out->used = (uint64_t)number(used);
    out->free = out->total - out->reserved - out->used;
    return OK;
}

API nvmlDeviceGetMemoryInfo(Device *device, Memory *out) {
    ENTER(device);
    Memory2 m;
    int status = memory(device, &m);
    if (!status) *out = (Memory){m.total, m.free, m.reserved + m.used};
    return status;
}

API nvmlDeviceGetFieldValues(Device *device, int count, Field *fields) {
    ENTER(device);
    const char *stamp = gpu(device, "timestamp_us");
    double now = clock_now();
    int64_t at = (int64_t)(stamp ? number(stamp) : now * 1e6);
    for (int i = 0; i < count; i++) {
        Field *field = &fields[i];
        char key[48];
        snprintf(key, sizeof key, field->scope ? "field.%u.%u" : "field.%u", field->id, field->scope);
        const char *value = gpu(device, key);
        field->timestamp = at;
        field->latency = 3;
        field->value.ull = 0;
        field->status = value ? OK : NOT_SUPPORTED;
        if (!value) continue;
        if (!strncmp(value, "error ", 6)) {
            field->status = (uint32_t)atoi(value + 6);
            continue;
        }
        double n = number_at(value, now);
        switch (field->id) {
        case 74: case 75: case 76: case 77: case 78: case 79: case 80: case 81:
        case 83: case 191: case 269: case 270: case 271:
            field->type = 3;
            field->value.ull = (uint64_t)n;
            break;
        case 193: case 194: case 195: case 196:
            field->type = 5;
            field->value.ull = 0xdddddddd00000000; /* the rest of a union is anything */
            field->value.si = (int32_t)n;
            break;
        default:
            field->type = 1;
            field->value.ull = 0xdddddddd00000000;
            field->value.ui = (uint32_t)n;
        }
    }
    return OK;
}

/* The pids of a GPU's processes that have that key, ascending as text. */
static unsigned pids(Device *device, const char *key, unsigned *out, unsigned room) {
    char prefix[48];
    unsigned count = 0;
    int length = snprintf(prefix, sizeof prefix, "gpu.%d.process.", device->slot);
    for (int i = 0; i < line_count && count < room; i++) {
        if (strncmp(lines[i].key, prefix, (size_t)length)) continue;
        char *end;
        unsigned pid = (unsigned)strtoul(lines[i].key + length, &end, 10);
        if (*end == '.' && !strcmp(end + 1, key)) out[count++] = pid;
    }
    return count;
}

static const char *process(Device *device, unsigned pid, const char *key) {
    char name[64];
    snprintf(name, sizeof name, "process.%u.%s", pid, key);
    return gpu(device, name);
}

static int processes(Device *device, unsigned *count, Process *out, int is_535) {
    unsigned found[1024], n = pids(device, "memory", found, 1024), room = *count;
    *count = n;
    if (!out || n > room) return n ? INSUFFICIENT_SIZE : OK;
    for (unsigned i = 0; i < n; i++) {
        const char *memory = process(device, found[i], "memory");
        uint64_t bytes = strcmp(memory, "n/a") ? (uint64_t)number(memory) : ~0ULL;
        if (is_535 && (i + 1) * sizeof(Process535) <= room * sizeof(Process))
            ((Process535 *)(void *)out)[i] = (Process535){found[i], bytes, ~0u, ~0u, 0};
        else if (!is_535)
            out[i] = (Process){found[i], bytes, ~0u, ~0u};
    }
    return OK;
}

API nvmlDeviceGetComputeRunningProcesses_v2(Device *device, unsigned *count, Process *out) {
    ENTER(device);
    return processes(device, count, out, 0);
}

API nvmlDeviceGetProcessUtilization(Device *device, Use *out, unsigned *count, unsigned long long since) {
    ENTER(device);
    unsigned found[1024], n = pids(device, "sm", found, 1024), fresh = 0;
    if (gpu(device, "mig") && number(gpu(device, "mig"))) return NOT_SUPPORTED;
    for (unsigned i = 0; i < n; i++) {
        const char *sampled = process(device, found[i], "sampled_us");
        uint64_t at = (uint64_t)(sampled ? number(sampled) : clock_now() * 1e6);
        if (at <= since) continue;
        if (out && fresh < *count)
            out[fresh] = (Use){found[i], at, (uint32_t)number(process(device, found[i], "sm")), 0, 0, 0};
        fresh++;
    }
    if (!fresh) return NOT_FOUND;
    int fits = out && fresh <= *count;
    *count = fresh;
    return fits ? OK : INSUFFICIENT_SIZE;
}

#ifndef OLD_DRIVER
ULL(nvmlDeviceGetCurrentClocksEventReasons, "reasons")
ULL(nvmlDeviceGetSupportedClocksEventReasons, "reasons_supported")

API nvmlDeviceGetTemperatureV(Device *device, Temperature *out) {
    ENTER(device);
    if (out->version != VERSION(Temperature, 1)) return VERSION_MISMATCH;
    const char *value = out->sensor ? NULL : gpu(device, "temperature");
    if (!value) return NOT_SUPPORTED;
    out->celsius = (int32_t)number(value);
    return OK;
}

API nvmlDeviceGetMarginTemperature(Device *device, Margin *out) {
    ENTER(device);
    if (out->version != VERSION(Margin, 1)) return VERSION_MISMATCH;
    const char *value = gpu(device, "margin");
    if (!value) return NOT_SUPPORTED;
    out->celsius = (int32_t)number(value);
    return OK;
}

API nvmlDeviceGetMemoryInfo_v2(Device *device, Memory2 *out) {
    ENTER(device);
    if (out->version != VERSION(Memory2, 2)) return VERSION_MISMATCH;
    return memory(device, out);
}

API nvmlDeviceGetComputeRunningProcesses_v3(Device *device, unsigned *count, Process *out) {
    ENTER(device);
    return processes(device, count, out, get("abi_535") != NULL);
}
#endif
