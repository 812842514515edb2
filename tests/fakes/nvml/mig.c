/* Slices of a GPU. */
#include "fake.h"

typedef struct {
    uint32_t sms, copies, decoders, encoders, jpegs, flows, gpu_slices, compute_slices;
    uint64_t mebibytes;
} Attributes;

_Static_assert(sizeof(Attributes) == 40, "nvmlDeviceAttributes_t");

API nvmlDeviceGetMaxMigDeviceCount(Device *device, unsigned *out) {
    ENTER(device);
    const char *value = gpu(device, "mig_max");
    *out = value ? (unsigned)number(value) : 0;
    return OK;
}

API nvmlDeviceGetMigDeviceHandleByIndex(Device *device, unsigned index, Device **out) {
    ENTER(device);
    if (device->mig >= 0 || index >= SLOTS) return INVALID_ARGUMENT;
    Device *slice = device_at(device->slot, (int)index);
    if (!gpu(slice, "uuid")) return NOT_FOUND;
    *out = slice;
    return OK;
}

API nvmlDeviceGetGpuInstanceId(Device *device, unsigned *out) {
    ENTER(device);
    return give_uint(device->mig < 0 ? NULL : gpu(device, "gi"), out);
}

API nvmlDeviceGetComputeInstanceId(Device *device, unsigned *out) {
    ENTER(device);
    return give_uint(device->mig < 0 ? NULL : gpu(device, "ci"), out);
}

API nvmlDeviceGetAttributes_v2(Device *device, Attributes *out) {
    ENTER(device);
    const char *value = gpu(device, "attributes");
    if (!value) return NOT_SUPPORTED;
    unsigned long mebibytes;
    memset(out, 0, sizeof *out);
    int found = sscanf(
        value, "%u %u %u %lu", &out->sms, &out->gpu_slices, &out->compute_slices, &mebibytes
    );
    out->mebibytes = mebibytes;
    return found == 4 ? OK : UNKNOWN;
}
