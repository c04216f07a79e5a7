/* From Mbed to an application. */
void setup(void);
void loop(void);

int main()
{
    setup();
    for (;;)
        loop();
}
