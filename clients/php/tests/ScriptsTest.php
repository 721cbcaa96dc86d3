<?php

declare(strict_types=1);

namespace Coatcheck\Session\Tests;

use PHPUnit\Framework\TestCase;

/** The lists of classes and scripts. UPDATE=1 ./test --filter ScriptsTest writes the latter. */
final class ScriptsTest extends TestCase
{
    public function testListOfScriptsIsUpToDate(): void
    {
        $list = '';
        foreach (glob(dirname(__DIR__) . '/lua/*.lua') as $file) {
            $list .= sprintf("        '%s' => '%s',\n", basename($file, '.lua'), sha1_file($file));
        }
        $file = dirname(__DIR__) . '/src/Scripts.php';
        $want = preg_replace('/(const SHA1 = \[\n).*?(    \];)/s', "\$1$list\$2", (string) file_get_contents($file));
        if (getenv('UPDATE') === '1') {
            file_put_contents($file, $want);
        }
        self::assertStringEqualsFile($file, $want, 'run UPDATE=1 ./test --filter ScriptsTest');
    }

    public function testListOfClassesIsUpToDate(): void
    {
        preg_match_all("/'(\\w+)'[,\\n]/", (string) file_get_contents(dirname(__DIR__) . '/autoload.php'), $listed);
        $classes = array_map(fn (string $file): string => basename($file, '.php'), glob(dirname(__DIR__) . '/src/*.php'));
        self::assertSame($classes, $listed[1], 'the classes that autoload.php lists');
    }
}
