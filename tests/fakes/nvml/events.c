/* Xids, as the driver hands them out. */
#include "fake.h"

typedef struct { int watched[GPUS]; } Set;
typedef struct {
    Device *device;
    uint64_t type, data;
    uint32_t gi, ci;
} Event;

_Static_assert(sizeof(Event) == 32, "nvmlEventData_t");

enum { XID = 8 };
static unsigned delivered; /* the last K of `event.K` */

API nvmlEventSetCreate(Set **out) {
    ENTER(NULL);
    leases++;
    return (*out = calloc(1, sizeof **out)) ? OK : UNKNOWN;
}

API nvmlEventSetFree(Set *set) {
    ENTER(NULL);
    leases--;
    free(set);
    return OK;
}

API nvmlDeviceRegisterEvents(Device *device, unsigned long long types, Set *set) {
    ENTER(device);
    if (types != XID || device->mig >= 0) return NOT_SUPPORTED;
    set->watched[device->slot] = 1;
    return OK;
}

API nvmlEventSetWait_v2(Set *set, Event *out, unsigned milliseconds) {
    ENTER(NULL);
    (void)milliseconds;
    const char *error = get("event_error"), *value;
    char key[32], uuid[96];
    unsigned xid;
    if (error) return atoi(error);
    while (snprintf(key, sizeof key, "event.%u", delivered + 1), (value = get(key))) {
        delivered++;
        if (sscanf(value, "%95s %u", uuid, &xid) != 2) return UNKNOWN;
        for (int slot = 0; slot < GPUS; slot++) {
            Device *device = device_at(slot, -1);
            const char *own = gpu(device, "uuid");
            if (!set->watched[slot] || !own || strcmp(own, uuid)) continue;
            *out = (Event){device, XID, xid, ~0u, ~0u};
            return OK;
        }
    }
    return TIMEOUT;
}
