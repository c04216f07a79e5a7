/* From Zephyr to an application. */
void setup(void);
void loop(void);

int main(void)
{
    setup();
    for (;;)
        loop();
    return 0;
}
