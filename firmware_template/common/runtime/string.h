/* The part of <string.h> that generated code may use; only on the include path of builds without a C library. */
#ifndef TK_RUNTIME_STRING_H
#define TK_RUNTIME_STRING_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif
void *memcpy(void *__restrict to, const void *__restrict from, size_t bytes);
void *memmove(void *to, const void *from, size_t bytes);
void *memset(void *to, int value, size_t bytes);
int memcmp(const void *first, const void *second, size_t bytes);
#ifdef __cplusplus
}
#endif

#endif
