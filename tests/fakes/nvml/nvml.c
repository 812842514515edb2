/* Start and end, the list of GPUs, and what can be read of one. */
#include "fake.h"

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
_Static_assert(sizeof(Pci) == 68, "nvmlPciInfo_t");

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
    if (--sessions == 0 && leases) abort(); /* the caller did not free what it took */
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
        *count += gpu(device_at(slot, -1), "uuid") != NULL;
    }
    return OK;
}

API nvmlDeviceGetHandleByIndex_v2(unsigned index, Device **out) {
    ENTER(NULL);
    unsigned rank = 0;
    for (int slot = 0; slot < GPUS; slot++) {
        *out = device_at(slot, -1);
        if (!gpu(*out, "uuid") || rank++ != index) continue;
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
UINT(nvmlDeviceGetCurrPcieLinkGeneration, "pcie.gen")
UINT(nvmlDeviceGetMaxPcieLinkGeneration, "pcie.gen_max")
UINT(nvmlDeviceGetCurrPcieLinkWidth, "pcie.width")
UINT(nvmlDeviceGetMaxPcieLinkWidth, "pcie.width_max")

#define UINT_OF(function, key)                                         \
    API function(Device *device, unsigned type, unsigned *out) {       \
        ENTER(device);                                                 \
        return give_uint(gpu_n(device, key, type), out);               \
    }
UINT_OF(nvmlDeviceGetClockInfo, "clock")
UINT_OF(nvmlDeviceGetMaxClockInfo, "clock_max")
UINT_OF(nvmlDeviceGetTemperatureThreshold, "threshold")
UINT_OF(nvmlDeviceGetNvLinkState, "nvlink")

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

/* Keys end with numbers, one for each argument. */
API nvmlDeviceGetMemoryErrorCounter(
    Device *device, unsigned type, unsigned counter, unsigned location, unsigned long long *out
) {
    ENTER(device);
    char key[48];
    snprintf(key, sizeof key, "ecc.%u.%u.%u", type, counter, location);
    return give_ull(gpu(device, key), out);
}

API nvmlDeviceGetRowRemapperHistogram(Device *device, unsigned out[5]) {
    ENTER(device);
    const char *value = gpu(device, "histogram");
    if (!value) return NOT_SUPPORTED;
    int found = sscanf(value, "%u %u %u %u %u", &out[0], &out[1], &out[2], &out[3], &out[4]);
    return found == 5 ? OK : UNKNOWN;
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
        field->latency = value ? 3 : 0;
        field->value.ull = 0;
        field->status = value ? OK : NOT_SUPPORTED;
        if (!value) continue;
        if (!strncmp(value, "error ", 6)) {
            field->status = (uint32_t)atoi(value + 6);
            continue;
        }
        double n = number_at(value, now);
        switch (strstr(value, " u32") ? 0 : field->id) {
        case 74: case 75: case 76: case 77: case 78: case 79: case 80: case 81:
        case 83: case 138: case 139: case 191: case 197: case 198: case 269: case 270: case 271:
        case 201 ... 204: case 206 ... 215: case 219: case 221:
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

#ifndef OLD_DRIVER
ULL(nvmlDeviceGetCurrentClocksEventReasons, "reasons")
ULL(nvmlDeviceGetSupportedClocksEventReasons, "reasons_supported")

API nvmlDeviceGetTemperatureV(Device *device, Temperature *out) {
    ENTER(device);
    if (out->version != VERSION(Temperature, 1)) return VERSION_MISMATCH;
    const char *value = gpu(device, out->sensor ? "temperature_max" : "temperature");
    if (!value) return out->sensor ? INVALID_ARGUMENT : NOT_SUPPORTED;
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
#endif
