from django.db import migrations, models


class AddIndexBeside(migrations.AddIndex):
    """
    Add an index while the site goes on: on PostgreSQL, signed-in people would wait until it is built.

    Django's own AddIndexConcurrently can be imported only where PostgreSQL's driver is installed.
    """

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        model = to_state.apps.get_model(app_label, self.model_name)
        if self.allow_migrate_model(schema_editor.connection.alias, model):
            schema_editor.add_index(model, self.index, **self.options(schema_editor))

    def database_backwards(self, app_label, schema_editor, from_state, to_state):
        model = from_state.apps.get_model(app_label, self.model_name)
        if self.allow_migrate_model(schema_editor.connection.alias, model):
            index = from_state.models[app_label, self.model_name_lower].get_index_by_name(self.index.name)
            schema_editor.remove_index(model, index, **self.options(schema_editor))

    @staticmethod
    def options(schema_editor):
        return {'concurrently': True} if schema_editor.connection.vendor == 'postgresql' else {}


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('spatio_django', '0003_refresh'),
    ]

    operations = [
        AddIndexBeside(
            model_name='spatiotoken',
            index=models.Index(fields=['state', 'id'], name='spatio_grant_state'),
        ),
        AddIndexBeside(
            model_name='spatiotoken',
            index=models.Index(fields=['seen_ms', 'id'], name='spatio_grant_seen'),
        ),
    ]
