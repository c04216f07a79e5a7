/* From startup.c, with memory in order, to an application. */
void tk_main(void);
void setup(void);
void loop(void);

#ifdef TK_STATIC_CONSTRUCTORS
void __libc_init_array(void);
void _init(void);
void _init(void) {}
#endif

void tk_main(void)
{
#ifdef TK_STATIC_CONSTRUCTORS
    __libc_init_array(); /* of C++ */
#endif
    setup();
    for (;;)
        loop();
}
