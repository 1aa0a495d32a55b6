/* Thread-specific keys and threads as C code uses them. */
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

static pthread_key_t key, stubborn, plain;
static atomic_size_t *destroyed;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t woken = PTHREAD_COND_INITIALIZER;
static int is_open;

/* Its value counts down: it sets itself anew until nothing is left. */
static void destroy(void *value) {
    atomic_fetch_add(destroyed, 1);
    size_t left = (size_t)value - 1;
    if (left > 0)
        pthread_setspecific(key, (void *)left);
}

/* Never has enough. */
static void again(void *value) {
    atomic_fetch_add(destroyed, 1);
    pthread_setspecific(stubborn, value);
}

int make_keys(atomic_size_t *counter) {
    destroyed = counter;
    return pthread_key_create(&key, destroy) | pthread_key_create(&stubborn, again) |
           pthread_key_create(&plain, NULL);
}

int set_key(size_t value) { return pthread_setspecific(key, (void *)value); }
int set_stubborn(size_t value) { return pthread_setspecific(stubborn, (void *)value); }
int set_plain(size_t value) { return pthread_setspecific(plain, (void *)value); }
int delete_key(void) { return pthread_key_delete(key); }

static void *body(void *unused) {
    if (destroyed != NULL)
        pthread_setspecific(key, (void *)2);
    pthread_mutex_lock(&mutex);
    while (!is_open)
        pthread_cond_wait(&woken, &mutex);
    pthread_mutex_unlock(&mutex);
    pthread_exit(NULL);
}

/* A detached thread that ends itself. */
int leak(void) {
    pthread_t thread;
    int status = pthread_create(&thread, NULL, body, NULL);
    return status ? status : pthread_detach(thread);
}

void release(void) {
    pthread_mutex_lock(&mutex);
    is_open = 1;
    pthread_cond_broadcast(&woken);
    pthread_mutex_unlock(&mutex);
}

#ifdef KEY_IN_CONSTRUCTOR
static pthread_key_t early;
__attribute__((constructor)) static void at_load(void) { pthread_key_create(&early, destroy); }
#endif

#ifdef THREAD_IN_CONSTRUCTOR
static pthread_t early;
__attribute__((constructor)) static void at_load(void) {
    pthread_create(&early, NULL, body, NULL);
    pthread_setname_np(early, "at-load");
}
#endif

#ifdef KEY_IN_DESTRUCTOR
extern int __cxa_thread_atexit_impl(void (*)(void *), void *, void *);
extern void *__dso_handle;
static void never(void *unused) { __builtin_trap(); }
__attribute__((destructor)) static void at_close(void) {
    pthread_t thread;
    /* Nobody has used it: it ends with the process. */
    if (destroyed == NULL)
        return;
    set_key(1);
    __cxa_thread_atexit_impl(never, NULL, &__dso_handle);
    if (pthread_create(&thread, NULL, body, NULL) == 0)
        __builtin_trap();
}
#endif

#ifdef TIMER
#include <signal.h>
#include <time.h>
int timer(void) {
    timer_t id;
    return timer_create(CLOCK_MONOTONIC, NULL, &id);
}
#endif

#ifdef WITH_COMPANION
extern int companion(void);
int ask(void) { return companion(); }
#endif
