
import django.db.models.deletion
import secrets
import spatio_django.models
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='ConsumedState',
            fields=[
                ('digest', models.CharField(max_length=64, primary_key=True, serialize=False)),
                ('expires_ms', models.BigIntegerField(db_index=True)),
            ],
            options={
                'verbose_name': 'consumed state',
                'verbose_name_plural': 'consumed states',
            },
        ),
        migrations.CreateModel(
            name='SpatioAccount',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('issuer', models.CharField(max_length=255, verbose_name='issuer')),
                ('sub', models.CharField(max_length=255, verbose_name='subject')),
                ('identity_digest', spatio_django.models.IdentityDigest(editable=False, max_length=64, unique=True)),
                ('claims', models.JSONField(default=dict, verbose_name='claims')),
                ('created_at', models.DateTimeField(auto_now_add=True, verbose_name='connected at')),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='spatio_accounts', to=settings.AUTH_USER_MODEL, verbose_name='user')),
            ],
            options={
                'verbose_name': 'Spatio account',
                'verbose_name_plural': 'Spatio accounts',
            },
        ),
        migrations.CreateModel(
            name='SpatioClient',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('issuer', models.CharField(max_length=255, verbose_name='issuer')),
                ('client_id', models.CharField(max_length=255, verbose_name='client id')),
                ('client_name', models.CharField(max_length=255, verbose_name='client name')),
                ('secret_ciphertext', models.TextField(default='', editable=False)),
                ('access_ciphertext', models.TextField(default='', editable=False)),
                ('registration_client_uri', models.TextField(default='', editable=False)),
                ('auth_method', models.CharField(max_length=32, verbose_name='client authentication')),
                ('redirect_uris', models.JSONField(default=list, verbose_name='redirect URIs')),
                ('scope', models.TextField(default='', verbose_name='scopes')),
                ('created_at', models.DateTimeField(auto_now_add=True, verbose_name='registered at')),
            ],
            options={
                'verbose_name': 'Spatio client',
                'verbose_name_plural': 'Spatio clients',
                'constraints': [models.UniqueConstraint(fields=('issuer', 'client_id'), name='spatio_client')],
            },
        ),
        migrations.CreateModel(
            name='SpatioToken',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('handle', models.CharField(default=secrets.token_urlsafe, editable=False, max_length=43, unique=True)),
                ('client_id', models.CharField(max_length=255, verbose_name='client id')),
                ('access_ciphertext', models.TextField(editable=False)),
                ('refresh_ciphertext', models.TextField(default='', editable=False)),
                ('scope', models.TextField(verbose_name='scopes')),
                ('id_token_claims', models.JSONField(default=dict, verbose_name='ID token claims')),
                ('expires_ms', models.BigIntegerField(null=True, verbose_name='expires, ms since the epoch')),
                ('created_at', models.DateTimeField(auto_now_add=True, verbose_name='signed in at')),
                ('account', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='tokens', to='spatio_django.spatioaccount', verbose_name='account')),
            ],
            options={
                'verbose_name': 'Spatio grant',
                'verbose_name_plural': 'Spatio grants',
            },
        ),
    ]
